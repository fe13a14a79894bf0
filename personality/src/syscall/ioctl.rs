//! ioctl(2) and the terminal's calls (ioctl_tty(2)).

use super::{Call, Outcome};
use crate::{
    file::{Object, OpenFile, terminal::Terminal},
    linux::{
        Errno, O_CLOEXEC, O_NONBLOCK, SIGTTOU,
        layouts::{Termios, Winsize},
    },
    machine::guest,
    task::signal,
};
use alloc::rc::Rc;

pub(super) fn ioctl(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let (request, argument) = (call.argument(1) as u32, call.argument(2));
    match request {
        // FIONCLEX, FIOCLEX, FIONBIO, FIONREAD.
        0x5450 | 0x5451 => {
            call.task
                .files
                .borrow()
                .borrow_mut()
                .set_close_on_exec(call.int(0), request == 0x5451)?;
            return Ok(0);
        }
        0x5421 => {
            let on: u32 = guest::read(argument)?;
            let flags = file.flags();
            file.set_flags(if on != 0 { flags | O_NONBLOCK } else { flags & !O_NONBLOCK });
            return Ok(0);
        }
        0x541b => return readable(&file, argument),
        _ => {}
    }
    match &file.object {
        Object::Terminal(terminal) => terminal_ioctl(call, terminal, request, argument, false),
        Object::Master(terminal) => terminal_ioctl(call, terminal, request, argument, true),
        Object::Socket(socket) => super::sockets::ioctl(call, socket, request, argument),
        _ => {
            if !(0x5400..0x5480).contains(&request) {
                crate::gap!(call.system, "ioctl on something else than a terminal");
            }
            Err(Errno::ENOTTY.into())
        }
    }
}

fn readable(file: &OpenFile, argument: u64) -> Outcome {
    let count = match &file.object {
        Object::Pipe(pipe) => pipe.length(),
        Object::Terminal(terminal) => terminal.readable(),
        Object::Master(terminal) => terminal.shown_length(),
        Object::Input(stream) => stream.length(),
        Object::Socket(socket) => socket.readable(),
        Object::Inotify(inotify) => inotify.readable(),
        Object::Node => file
            .node
            .as_ref()
            .map_or(0, |node| node.size().saturating_sub(file.offset.get()) as usize),
        _ => return Err(Errno::ENOTTY.into()),
    };
    guest::write(argument, &(count as u32))?;
    Ok(0)
}

fn terminal_ioctl(
    call: &mut Call<'_>,
    terminal: &Rc<Terminal>,
    request: u32,
    argument: u64,
    master: bool,
) -> Outcome {
    let process = call.task.process.clone();
    match request {
        // TCGETS; TCSETS, TCSETSW, TCSETSF.
        0x5401 => guest::write(argument, &terminal.termios())?,
        0x5402..=0x5404 => {
            check_background(call, terminal)?;
            let new: Termios = guest::read(argument)?;
            terminal.set_termios(new, request == 0x5404);
        }
        // TCSBRK, TCXONC, TCFLSH.
        0x5409 | 0x540a => {}
        0x540b => match argument {
            0 => terminal.flush_input(),
            1 => terminal.flush_output(),
            2 => {
                terminal.flush_input();
                terminal.flush_output();
            }
            _ => return Err(Errno::EINVAL.into()),
        },
        // TIOCSCTTY.
        0x540e => {
            let is_leader = process.pid == process.session.get();
            if !is_leader
                || terminal.session.get() != 0 && terminal.session.get() != process.session.get()
            {
                return Err(Errno::EPERM.into());
            }
            terminal.session.set(process.session.get());
            terminal.foreground.set(process.group.get());
            *process.terminal.borrow_mut() = Some(terminal.clone());
        }
        // TIOCGPGRP, TIOCSPGRP, TIOCGSID.
        0x540f => {
            check_controlling(call, terminal, master)?;
            guest::write(argument, &terminal.foreground.get())?;
        }
        0x5410 => set_foreground(call, terminal, guest::read(argument)?)?,
        0x5429 => {
            check_controlling(call, terminal, master)?;
            guest::write(argument, &terminal.session.get())?;
        }
        // TIOCOUTQ.
        0x5411 => guest::write(argument, &(terminal.shown_length() as u32))?,
        // TIOCGWINSZ, TIOCSWINSZ.
        0x5413 => guest::write(argument, &terminal.size())?,
        0x5414 => {
            let size: Winsize = guest::read(argument)?;
            if terminal.set_size(size) {
                let group = terminal.foreground.get();
                if group != 0 {
                    call.system.signal_group(
                        group,
                        crate::linux::SIGWINCH,
                        signal::info_from_kernel(crate::linux::SIGWINCH),
                    );
                }
            }
        }
        // TIOCNOTTY.
        0x5422 => {
            if !process.terminal.borrow().as_ref().is_some_and(|own| Rc::ptr_eq(own, terminal)) {
                return Err(Errno::ENOTTY.into());
            }
            if process.pid == process.session.get() {
                terminal.session.set(0);
                terminal.foreground.set(0);
            }
            *process.terminal.borrow_mut() = None;
        }
        // TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER of masters.
        0x8004_5430 if master => guest::write(argument, &terminal.index)?,
        0x4004_5431 if master => {
            let locked: u32 = guest::read(argument)?;
            terminal.locked.set(locked != 0);
        }
        0x5441 if master => {
            let path = alloc::format!("/dev/pts/{}", terminal.index).into_bytes();
            let file = OpenFile::new(
                Object::Terminal(terminal.clone()),
                call.system.terminals.node(terminal.index),
                argument as u32 & (3 | O_NONBLOCK),
                path,
            );
            return call.install(file, argument as u32 & O_CLOEXEC != 0).map_err(Into::into);
        }
        _ => {
            crate::gap!(call.system, "ioctl on a terminal");
            return Err(Errno::ENOTTY.into());
        }
    }
    Ok(0)
}

fn check_controlling(call: &Call<'_>, terminal: &Terminal, master: bool) -> Result<(), Errno> {
    if master || terminal.session.get() == call.task.process.session.get() {
        Ok(())
    } else {
        Err(Errno::ENOTTY)
    }
}

/// A background group that changes its terminal is stopped.
fn check_background(call: &Call<'_>, terminal: &Terminal) -> Result<(), crate::wait::Stop> {
    let io = call.io();
    let checked = crate::file::open::check_background(terminal, SIGTTOU, &io);
    let signals = io.signals.take();
    drop(io);
    call.settle(signals, false);
    checked
}

fn set_foreground(
    call: &Call<'_>,
    terminal: &Rc<Terminal>,
    group: i32,
) -> Result<(), crate::wait::Stop> {
    if terminal.session.get() != call.task.process.session.get() {
        return Err(Errno::ENOTTY.into());
    }
    check_background(call, terminal)?;
    let members = call.system.processes.group(group);
    if group < 0 {
        return Err(Errno::EINVAL.into());
    }
    let in_session =
        members.iter().any(|member| member.session.get() == call.task.process.session.get());
    if !in_session {
        return Err(if members.is_empty() { Errno::ESRCH } else { Errno::EPERM }.into());
    }
    terminal.foreground.set(group);
    Ok(())
}
