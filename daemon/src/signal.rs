//! Linux signals by name and number.

/// Asks a program to end.
pub const TERM: u8 = 15;
/// Ends a program.
pub const KILL: u8 = 9;
/// Largest signal number.
const LAST: u8 = 64;
/// First real-time signal.
const REALTIME: u8 = 34;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal named `SIGTERM`, `TERM`, `15`, `RTMIN+1` or `RTMAX-1`.
#[must_use]
pub fn parse(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i16>().ok() };
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => Some(i16::from(REALTIME) + offset(rest)?),
        (_, Some(rest)) => Some(i16::from(LAST) + offset(rest)?),
        _ => None,
    };
    if let Some(number) = realtime {
        return u8::try_from(number).ok().filter(|n| (REALTIME..=LAST).contains(n));
    }
    let index = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(index + 1).ok()
}

/// The name of a signal, or its number.
#[must_use]
pub fn name(signal: u8) -> String {
    let index = usize::from(signal).checked_sub(1);
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => format!("SIG{name}"),
        None => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("2", 2),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SYS", 31),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "0", "65", "300", "SIG", "NOPE", "RTMIN-1", "RTMAX+1", "RTMINx"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
