//! What a program hands to its personality: its file, socket addresses and control data.

use personality::{
    linux::Errno,
    net::{Family, address::Address, ancillary},
    task::elf::Elf,
};

/// A program's file: what is accepted lies in order and below the end of the guest's addresses.
pub(crate) fn elf(bytes: &[u8]) {
    let read = |offset, length| {
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        Ok(rest.unwrap_or_default().iter().take(length).copied().collect())
    };
    if let Ok(elf) = Elf::decode(read) {
        let (low, high) = elf.bounds();
        assert!(low < high && high <= kernel_abi::layout::GUEST_MAX, "{low:#x}..{high:#x}");
    }
}

/// Socket addresses and the control data of messages.
pub(crate) fn socket(bytes: &[u8]) {
    for family in [Family::Unix, Family::Inet, Family::Inet6, Family::Netlink] {
        if let Ok(address) = Address::decode(bytes, family) {
            let encoded = address.encode(family);
            assert!(encoded.bytes().len() <= 128, "{} bytes", encoded.bytes().len());
        }
    }
    let mut total = 0;
    let each = ancillary::each(bytes, |_, _, data| {
        total += data.len();
        Ok(())
    });
    assert!(matches!(each, Ok(()) | Err(Errno::EINVAL)));
    assert!(total <= bytes.len(), "messages that lie over each other");
}
