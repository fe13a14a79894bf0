//! What each function costs with all that it calls, told from the order of the addresses alone.
//!
//! Going to a function's first address is a call, going elsewhere into a function that is under way is a return to it. Every program has a stack of
//! its own, and the kernel's functions lie on that of the program they work for. Threads of one program share its stack, so what runs while
//! another thread is in the middle of a function can count for that function too.

use super::names::Names;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A function: its program and its first address.
type Function = (&'static str, u64);

/// Instructions of every function with those it calls, by program and name.
pub(super) fn inclusive(order: &[u64], names: &Names) -> BTreeMap<String, u64> {
    let mut functions: HashMap<u64, Function> = HashMap::new();
    let mut stacks: HashMap<&'static str, Vec<Function>> = HashMap::new();
    let mut counts: HashMap<Function, u64> = HashMap::new();
    let mut context = "?";
    for address in order {
        let function = *functions.entry(*address).or_insert_with(|| names.function(*address));
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
    let named = |((program, address), count): ((&str, u64), u64)| {
        (format!("{program:12} {}", names.describe(address).0), count)
    };
    let mut all = BTreeMap::new();
    for (name, count) in counts.into_iter().map(named) {
        *all.entry(name).or_insert(0) += count;
    }
    all
}
