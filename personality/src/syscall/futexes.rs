//! Waiting for words of memory (futex(2), get_robust_list(2)).

use super::{Call, Outcome, time};
use crate::{
    linux::{Errno, layouts::Timespec},
    machine::guest,
    task::{
        Task,
        futex::{Key, key, private_key},
    },
    wait::Stop,
};

pub(super) fn futex(call: &mut Call<'_>) -> Outcome {
    const PRIVATE: u64 = 128;
    const CLOCK_REALTIME: u64 = 256;
    let (address, operation, value) = (call.argument(0), call.argument(1), call.argument(2) as u32);
    let timeout = call.argument(3);
    let clock = if operation & CLOCK_REALTIME != 0 {
        crate::linux::CLOCK_REALTIME
    } else {
        crate::linux::CLOCK_MONOTONIC
    };
    let bits = call.argument(5) as u32;
    let key = if operation & PRIVATE != 0 { private_key } else { key };
    match operation & !(PRIVATE | CLOCK_REALTIME) {
        command @ (0 | 9) => {
            let deadline = match timeout {
                0 => u64::MAX,
                at => {
                    let wanted = time::duration(&guest::read::<Timespec>(at)?)?;
                    if command == 0 {
                        time::deadline_after(call, wanted)
                    } else {
                        time::deadline_at(clock, wanted)
                    }
                }
            };
            let bits = if command == 0 { u32::MAX } else { bits };
            let result = call.system.futexes.wait(call.task, (address, key), value, bits, deadline);
            if matches!(result, Err(Stop::Wait(_))) {
                call.task.call_begun();
            }
            result
        }
        command @ (1 | 10) => {
            let bits = if command == 1 { u32::MAX } else { bits };
            if bits == 0 || address % 4 != 0 {
                return Err(Errno::EINVAL.into());
            }
            let key = key(call.task, address);
            Ok(call.system.futexes.wake(&call.system.processes, key, value, bits))
        }
        command @ (3 | 4) => {
            let target = call.argument(4);
            if command == 4 && guest::load(address)? != call.argument(5) as u32 {
                return Err(Errno::EAGAIN.into());
            }
            let (from, to) = (key(call.task, address), key(call.task, target));
            let (woken, moved) = call.system.futexes.requeue(
                &call.system.processes,
                from,
                to,
                value,
                timeout as u32,
            );
            Ok(if command == 3 { woken } else { woken + moved })
        }
        5 => wake_operation(call, key, address, value),
        _ => {
            crate::gap!(call.system, "futex: priority inheritance");
            Err(Errno::ENOSYS.into())
        }
    }
}

/// FUTEX_WAKE_OP.
fn wake_operation(
    call: &mut Call<'_>,
    key: fn(&Task, u64) -> Key,
    address: u64,
    count: u32,
) -> Outcome {
    let (second, other_count, encoded) =
        (call.argument(4), call.argument(3) as u32, call.argument(5) as u32);
    let sign = |value: u32| ((value << 20) as i32) >> 20;
    let (mut operand, compared) = (sign(encoded >> 12 & 0xfff), sign(encoded & 0xfff));
    if encoded >> 31 != 0 {
        operand = 1_i32.wrapping_shl(operand as u32 & 31);
    }
    let old = loop {
        let old = guest::load(second)?;
        let new = match encoded >> 28 & 7 {
            0 => operand as u32,
            1 => old.wrapping_add(operand as u32),
            2 => old | operand as u32,
            3 => old & !(operand as u32),
            4 => old ^ operand as u32,
            _ => return Err(Errno::ENOSYS.into()),
        };
        if guest::exchange(second, old, new)? == old {
            break old as i32;
        }
    };
    let holds = match encoded >> 24 & 0xf {
        0 => old == compared,
        1 => old != compared,
        2 => old < compared,
        3 => old <= compared,
        4 => old > compared,
        5 => old >= compared,
        _ => return Err(Errno::ENOSYS.into()),
    };
    let mut woken =
        call.system.futexes.wake(&call.system.processes, key(call.task, address), count, u32::MAX);
    if holds {
        woken += call.system.futexes.wake(
            &call.system.processes,
            key(call.task, second),
            other_count,
            u32::MAX,
        );
    }
    Ok(woken)
}

pub(super) fn set_robust_list(call: &mut Call<'_>) -> Outcome {
    if call.argument(1) != 24 {
        return Err(Errno::EINVAL.into());
    }
    call.task.robust_list.set(call.argument(0));
    Ok(0)
}

pub(super) fn get_robust_list(call: &mut Call<'_>) -> Outcome {
    let task = match call.int(0) {
        0 => call.task.clone(),
        tid => call.system.processes.task(tid).ok_or(Errno::ESRCH)?,
    };
    guest::write(call.argument(1), &task.robust_list.get())?;
    guest::write(call.argument(2), &24_u64)?;
    Ok(0)
}
