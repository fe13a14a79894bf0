//! Sizes, numbers of CPUs and sets of CPUs as docker writes them.

use crate::error::{CliError, Result};

/// Parses a size: `512`, `64k`, `128m`, `2g`, with or without a final `b`.
pub(crate) fn size(text: &str) -> Result<u64> {
    let wrong = || {
        CliError::Usage(format!("invalid size {text:?}: expected a number with b, k, m, g or t"))
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match lower.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    if bytes.is_finite() && (0.0..9.0e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// Parses a number of CPUs to thousandths.
pub(crate) fn cpus(text: &str) -> Result<u64> {
    let wrong = || CliError::Usage(format!("invalid number of CPUs {text:?}"));
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if number.is_finite() && (0.001..=4096.0).contains(&number) {
        Ok((number * 1000.0).round() as u64)
    } else {
        Err(wrong())
    }
}

/// Parses a set of CPUs such as `0-2,5` to a mask.
pub(crate) fn cpu_set(text: &str) -> Result<u64> {
    let wrong = || {
        CliError::Usage(format!(
            "invalid set of CPUs {text:?}: expected for example 0-2,5 (up to CPU 63)"
        ))
    };
    let mut mask = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last > 63 {
            return Err(wrong());
        }
        for cpu in first..=last {
            mask |= 1 << cpu;
        }
    }
    Ok(mask)
}

/// Makes the weight of cgroup v2 from docker's CPU shares (2..262144, 1024 is normal).
pub(crate) fn weight(shares: u64) -> Result<u64> {
    if !(2..=262_144).contains(&shares) {
        return Err(CliError::Usage(format!("invalid CPU shares {shares}: expected 2 to 262144")));
    }
    Ok((1 + (shares - 2) * 9999 / 262_142).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("64").unwrap(), 64);
        assert_eq!(size("64k").unwrap(), 65_536);
        assert_eq!(size("1.5g").unwrap(), 1_610_612_736);
        assert_eq!(size("2GiB").unwrap(), 2 << 30);
        for bad in ["", "x", "12q", "-1m", "99999999999t"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpus_and_sets() {
        assert_eq!(cpus("1.5").unwrap(), 1500);
        assert!(cpus("0").is_err() && cpus("nan").is_err());
        assert_eq!(cpu_set("0-2,5").unwrap(), 0b10_0111);
        assert!(cpu_set("3-1").is_err() && cpu_set("64").is_err() && cpu_set("").is_err());
        assert_eq!(weight(2).unwrap(), 1);
        assert_eq!(weight(262_144).unwrap(), 10_000);
        assert!(weight(1).is_err());
    }
}
