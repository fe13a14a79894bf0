//! Names of Endpoints.

use alloc::{collections::BTreeMap, string::String};

/// The entry for a service's Endpoint.
pub(crate) fn find_endpoint<'a, T>(
    endpoints: &'a BTreeMap<(String, String), T>,
    service: &str,
    name: &str,
) -> Option<&'a T> {
    endpoints
        .iter()
        .find(|((owner, known), _)| owner == service && known == name)
        .map(|(_, endpoint)| endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_endpoint_is_found_by_both_names() {
        let endpoints = BTreeMap::from([
            (("a".to_string(), "x".to_string()), 1),
            (("b".to_string(), "x".to_string()), 2),
        ]);
        assert_eq!(find_endpoint(&endpoints, "b", "x"), Some(&2));
        assert_eq!(find_endpoint(&endpoints, "b", "y"), None);
    }
}
