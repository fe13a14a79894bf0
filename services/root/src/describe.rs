//! What services hold, by the service's name and the name it has there.

use alloc::{collections::BTreeMap, string::String};

/// What a service holds under a name.
pub(crate) fn find<'a, T>(
    held: &'a BTreeMap<(String, String), T>,
    service: &str,
    name: &str,
) -> Option<&'a T> {
    held.iter()
        .find(|((owner, known), _)| owner == service && known == name)
        .map(|(_, thing)| thing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_thing_is_found_by_both_names() {
        let held = BTreeMap::from([
            (("a".to_string(), "x".to_string()), 1),
            (("b".to_string(), "x".to_string()), 2),
        ]);
        assert_eq!(find(&held, "b", "x"), Some(&2));
        assert_eq!(find(&held, "b", "y"), None);
    }
}
