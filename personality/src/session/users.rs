//! Users and groups of the image (passwd(5), group(5)).

use crate::{
    file::{Kind, path::Walker},
    machine::guest::Sink,
    task::{Place, credentials::Credentials},
};
use alloc::{format, string::String, vec::Vec};
use contract::compartment::StartFailure;

/// Longest passwd or group file that is read.
const MAX_FILE: u64 = 1 << 20;

/// A user as the program will see itself.
#[derive(Debug)]
pub struct User {
    /// Users and groups.
    pub credentials: Credentials,
    /// Home directory.
    pub home: Vec<u8>,
}

/// A file of `/etc`; empty when there is none.
fn read(etc: &Walker<'_>, name: &[u8]) -> Vec<u8> {
    let Ok(node) = etc.find(name, true) else { return Vec::new() };
    let Kind::File(data) = &node.kind else { return Vec::new() };
    let mut bytes = alloc::vec![0; data.size().min(MAX_FILE) as usize];
    let count = data.read(0, &mut Sink::kernel(&mut bytes)).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

/// Lines of a file, split at colons.
fn entries(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':').collect())
}

fn number(text: Option<&&[u8]>) -> Option<u32> {
    core::str::from_utf8(text?).ok()?.parse().ok()
}

/// Resolves `user[:group]`, names or numbers; empty is root.
///
/// # Errors
/// `UnknownUser`.
pub fn resolve(place: &Place, user: &str, more: &[u32]) -> Result<User, StartFailure> {
    let root = Credentials::new(0, 0, Vec::new());
    let mut walker = Walker { place, credentials: &root, start: None };
    let Ok(etc) = walker.find(b"/etc", true) else { return resolve_in(b"", b"", user, more) };
    walker.start = Some(etc);
    resolve_in(&read(&walker, b"passwd"), &read(&walker, b"group"), user, more)
}

fn resolve_in(passwd: &[u8], group: &[u8], user: &str, more: &[u32]) -> Result<User, StartFailure> {
    let (user, group_name) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let wanted: Option<u32> = user.parse().ok();
    let known = entries(passwd).find(|entry| {
        entry.first() == Some(&user.as_bytes())
            || wanted.is_some() && number(entry.get(2)) == wanted && entry.len() > 3
    });
    let (uid, gid, home, name) = match (&known, wanted) {
        (Some(entry), _) => {
            let home = entry
                .get(5)
                .filter(|home| !home.is_empty())
                .map_or_else(|| b"/".to_vec(), |home| home.to_vec());
            let name = entry.first().map_or_else(Vec::new, |name| name.to_vec());
            (number(entry.get(2)).unwrap_or(0), number(entry.get(3)).unwrap_or(0), home, name)
        }
        (None, Some(uid)) => {
            (uid, 0, if uid == 0 { b"/root".to_vec() } else { b"/".to_vec() }, Vec::new())
        }
        (None, None) => {
            return Err(StartFailure::UnknownUser(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    };
    let mut groups = more.to_vec();
    let gid = match group_name {
        None => {
            // Groups that list the user, as login would give it.
            let member = entries(group).filter(|entry| {
                !name.is_empty()
                    && entry.get(3).is_some_and(|members| {
                        members.split(|byte| *byte == b',').any(|member| member == name)
                    })
            });
            groups.extend(member.filter_map(|entry| number(entry.get(2))));
            gid
        }
        Some(name) => {
            let found = entries(group)
                .find(|entry| entry.first() == Some(&name.as_bytes()))
                .and_then(|entry| number(entry.get(2)));
            found.or_else(|| name.parse().ok()).ok_or_else(|| unknown_group(name))?
        }
    };
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    Ok(User { credentials: Credentials::new(uid, gid, groups), home })
}

fn unknown_group(name: &str) -> StartFailure {
    StartFailure::UnknownUser(
        String::from("unable to find group ") + name + ": no matching entries in group file",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nada:x:1000:1001:Ada:/home/ada:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nada:x:1001:\naudio:x:29:ada,bob\n";

    #[test]
    fn names_and_numbers_are_found() {
        let ada = resolve_in(PASSWD, GROUP, "ada", &[]).unwrap();
        assert_eq!(
            (ada.credentials.euid(), ada.credentials.egid(), ada.home.as_slice()),
            (1000, 1001, &b"/home/ada"[..])
        );
        assert_eq!(ada.credentials.more_groups, [1001, 29]);
        let number = resolve_in(PASSWD, GROUP, "1000:29", &[]).unwrap();
        assert_eq!((number.credentials.euid(), number.credentials.egid()), (1000, 29));
        assert_eq!(resolve_in(PASSWD, GROUP, "4242", &[]).unwrap().credentials.euid(), 4242);
        assert_eq!(resolve_in(b"", b"", "", &[]).unwrap().home, b"/root");
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(matches!(
            resolve_in(PASSWD, GROUP, "nobody", &[]),
            Err(StartFailure::UnknownUser(_))
        ));
        assert!(matches!(
            resolve_in(PASSWD, GROUP, "ada:none", &[]),
            Err(StartFailure::UnknownUser(_))
        ));
    }
}
