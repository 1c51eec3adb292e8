//! Lists of whom to have links with, as people write them: ranges of addresses, and identities of nodes.

use warren_proto::topology::{Access, AccessRule};

/// Entries of one list that are taken: more belongs into a firewall.
const MAX_RULES: usize = 10_000;

/// Reads both lists.
///
/// # Errors
/// The field, and what is wrong with it.
pub(crate) fn access(allow: &[String], deny: &[String]) -> Result<Access, (&'static str, String)> {
    Ok(Access {
        allow: rules(allow).map_err(|problem| ("access.allow", problem))?,
        deny: rules(deny).map_err(|problem| ("access.deny", problem))?,
    })
}

fn rules(list: &[String]) -> Result<Vec<AccessRule>, String> {
    if list.len() > MAX_RULES {
        return Err(format!(
            "has more than {MAX_RULES} entries; use a firewall for so many"
        ));
    }
    list.iter().map(|text| rule(text)).collect()
}

fn rule(text: &str) -> Result<AccessRule, String> {
    if let Ok(node) = text.parse() {
        return Ok(AccessRule::Node(node));
    }
    text.parse().map(AccessRule::Addresses).map_err(|error| {
        format!(
            "has {text:?}, which is neither the identity of a node nor a range of addresses such as \"203.0.113.0/24\" or \"2001:db8::/32\" \
             ({error})"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_identities() {
        let list = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        let node = "SD~JcNiQbvH3-rXBMkScViNkzGmoEmluQW30NfractM";
        let both = access(
            &list(&[node]),
            &list(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]),
        )
        .unwrap();
        assert!(matches!(&both.allow[..], [AccessRule::Node(_)]));
        assert_eq!(both.deny.len(), 3);
        for wrong in ["10.0.0.0/33", "10.0.0.1/8", "example.org", "", "warren-node:x"] {
            let (field, problem) = access(&[], &list(&[wrong])).unwrap_err();
            assert_eq!(field, "access.deny");
            assert!(problem.contains("203.0.113.0/24"), "{problem}");
        }
    }
}
