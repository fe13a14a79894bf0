//! Who a process is: users, groups, capabilities (credentials(7), capabilities(7)).

use crate::linux::{S_IFDIR, S_IFMT, S_ISGID, S_ISUID};
use alloc::vec::Vec;

/// CAP_CHOWN and the others that matter here.
pub const CAP_CHOWN: u32 = 0;
/// Bypass permission checks.
pub const CAP_DAC_OVERRIDE: u32 = 1;
/// Act as a file's owner.
pub const CAP_FOWNER: u32 = 3;
/// Keep set-user-ID and set-group-ID over a change.
pub const CAP_FSETID: u32 = 4;
/// Signal anybody.
pub const CAP_KILL: u32 = 5;
/// Change groups.
pub const CAP_SETGID: u32 = 6;
/// Change users.
pub const CAP_SETUID: u32 = 7;
/// chroot(2).
pub const CAP_SYS_CHROOT: u32 = 18;
/// mount(2), sethostname(2) and more.
pub const CAP_SYS_ADMIN: u32 = 21;
/// Make device nodes.
pub const CAP_MKNOD: u32 = 27;
/// The capabilities that docker gives a container's root.
pub const CONTAINER: u64 = 0xa804_25fb;

/// Users, groups, capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective, saved and file-system user.
    pub users: [u32; 4],
    /// Real, effective, saved and file-system group.
    pub groups: [u32; 4],
    /// Supplementary groups.
    pub more_groups: Vec<u32>,
    /// Permitted capabilities.
    pub permitted: u64,
    /// Effective capabilities.
    pub effective: u64,
    /// Inheritable capabilities.
    pub inheritable: u64,
    /// Bounding set.
    pub bounding: u64,
}

impl Credentials {
    /// A user in a container.
    #[must_use]
    pub fn new(uid: u32, gid: u32, more_groups: Vec<u32>) -> Self {
        let held = if uid == 0 { CONTAINER } else { 0 };
        Self {
            users: [uid; 4],
            groups: [gid; 4],
            more_groups,
            permitted: held,
            effective: held,
            inheritable: 0,
            bounding: CONTAINER,
        }
    }
    /// Effective user.
    #[must_use]
    pub const fn euid(&self) -> u32 {
        self.users[1]
    }
    /// Effective group.
    #[must_use]
    pub const fn egid(&self) -> u32 {
        self.groups[1]
    }
    /// Whether it has a capability.
    #[must_use]
    pub const fn has(&self, capability: u32) -> bool {
        self.effective & 1 << capability != 0
    }
    /// Whether it is in a group.
    #[must_use]
    pub fn is_member(&self, gid: u32) -> bool {
        self.groups[3] == gid || self.more_groups.contains(&gid)
    }
    /// Whether it may access a file with bits (4 read, 2 write, 1 execute).
    #[must_use]
    pub fn may(&self, mode: u32, uid: u32, gid: u32, wanted: u32) -> bool {
        let granted = if self.users[3] == uid {
            mode >> 6
        } else if self.is_member(gid) {
            mode >> 3
        } else {
            mode
        };
        if granted & wanted == wanted {
            return true;
        }
        let is_directory = mode & S_IFMT == S_IFDIR;
        // Nobody executes a file that nobody may execute.
        self.has(CAP_DAC_OVERRIDE) && (is_directory || wanted & 1 == 0 || mode & 0o111 != 0)
    }
    /// Whether it owns something, or may act as if.
    #[must_use]
    pub const fn owns(&self, uid: u32) -> bool {
        self.users[3] == uid || self.has(CAP_FOWNER)
    }
    /// Whether it may give something of a group set-group-ID.
    #[must_use]
    pub fn may_set_group(&self, gid: u32) -> bool {
        self.is_member(gid) || self.has(CAP_FSETID)
    }
    /// A mode without set-user-ID, and without set-group-ID where that gives a program's user the group, or the group is not one of these.
    #[must_use]
    pub fn without_set_ids(&self, mode: u32, gid: u32) -> u32 {
        let loses_group = mode & 0o010 != 0 || !self.may_set_group(gid);
        mode & !S_ISUID & !(if loses_group { S_ISGID } else { 0 })
    }
    /// Follows a change of users: capabilities go with the last root user.
    pub fn update_capabilities(&mut self, before: [u32; 4]) {
        let was_root = before[..3].contains(&0);
        let is_root = self.users[..3].contains(&0);
        if was_root && !is_root {
            self.permitted = 0;
            self.effective = 0;
        }
        if before[1] == 0 && self.users[1] != 0 {
            self.effective = 0;
        }
        if before[1] != 0 && self.users[1] == 0 {
            self.effective = self.permitted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_follow_owner_group_and_others_in_that_order() {
        let user = Credentials::new(1000, 100, alloc::vec![20]);
        assert!(user.may(0o100_640, 1000, 5, 6));
        assert!(!user.may(0o100_070, 1000, 100, 4));
        assert!(user.may(0o100_040, 1, 20, 4));
        assert!(!user.may(0o100_040, 1, 21, 4));
        let root = Credentials::new(0, 0, Vec::new());
        assert!(root.may(0o100_000, 1000, 5, 6));
        assert!(!root.may(0o100_644, 1000, 5, 1));
        assert!(root.may(0o040_000, 1000, 5, 1));
    }
}
