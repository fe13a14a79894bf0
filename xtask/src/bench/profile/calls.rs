//! What each function costs with all that it calls, told from the order of the addresses alone.
//!
//! Going to a function's first address is a call, going elsewhere into a function that is under way is a return to it. Every program has a stack of
//! its own, and the kernel's functions lie on that of the program they work for. Threads of one program share its stack, so what runs while
//! another thread is in the middle of a function can count for that function too.

use super::super::names::Names;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A function: its program and its first address.
type Function = (&'static str, u64);

/// Instructions of every function with those it calls, by program and name.
pub(super) fn inclusive(order: &[u64], names: &Names) -> BTreeMap<String, u64> {
    let mut known: HashMap<u64, Function> = HashMap::new();
    let function = |address: u64| *known.entry(address).or_insert_with(|| names.function(address));
    let mut all = BTreeMap::new();
    for ((program, address), count) in counts(order, function) {
        *all.entry(format!("{program:12} {}", names.describe(address).0)).or_insert(0) += count;
    }
    all
}

fn counts(order: &[u64], mut function_at: impl FnMut(u64) -> Function) -> HashMap<Function, u64> {
    let mut stacks: HashMap<&'static str, Vec<Function>> = HashMap::new();
    let mut counts: HashMap<Function, u64> = HashMap::new();
    let mut context = "?";
    for address in order {
        let function = function_at(*address);
        if function.0 != "kernel" {
            context = function.0;
        }
        let stack = stacks.entry(context).or_default();
        if *address != function.1
            && let Some(place) = stack.iter().rposition(|under_way| *under_way == function)
        {
            stack.truncate(place + 1);
        } else {
            stack.push(function);
        }
        let mut seen = HashSet::new();
        for under_way in stack.iter().filter(|under_way| seen.insert(**under_way)) {
            *counts.entry(*under_way).or_insert(0) += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions are 16 bytes long; the kernel's lie from 256 on.
    fn function_at(address: u64) -> Function {
        (if address < 256 { "program" } else { "kernel" }, address & !15)
    }

    #[test]
    fn what_is_called_counts_for_its_callers_until_they_go_on() {
        // 16 calls 32, which asks the kernel and calls itself; then 16 goes on and calls 48.
        let order = [16, 17, 32, 33, 256, 257, 34, 32, 33, 18, 48, 19];
        let counts = counts(&order, function_at);
        let of = |program, address| counts.get(&(program, address)).copied().unwrap_or(0);
        assert_eq!(of("program", 16), order.len() as u64);
        assert_eq!(of("program", 32), 7);
        assert_eq!(of("kernel", 256), 2);
        assert_eq!(of("program", 48), 1);
    }
}
