//! Requests of native clients: in a Space of theirs, by a call.

use crate::registry::Registry;
use alloc::vec::Vec;
use contract::{
    compartments::{Refusal, Request, Response, call},
    wire,
};
use rt::{
    Domain, Notification, Space,
    abi::{Rights, space::Access},
    message::{Message, Received},
    view::View,
};

/// Most pages of a request.
const MAX_PAGES: u64 = 64;
/// Answer label: the call itself is malformed.
const MALFORMED: u32 = 0x100;

/// Carries a call out; the answer is written over the request.
pub(crate) fn call(registry: &mut Registry, received: &Received) -> Message {
    let malformed = Message::new(MALFORMED, [0; 4]);
    let [pages, bits, ..] = received.words;
    let (Some(space), true) = (received.cap(0), (1..=MAX_PAGES).contains(&pages)) else {
        return malformed;
    };
    let Ok(view) = View::map(Space(space), 0, pages, Access::READ | Access::WRITE) else {
        return malformed;
    };
    let request = read(&view);
    let response = match &request {
        Some(request) => registry.request(request),
        None => Response::Refused(Refusal::BadSpec("malformed request".into())),
    };
    if let (Some(Request::Create(create)), Response::Created { .. }) = (&request, &response) {
        let is_watched = received.label == call::REQUEST_WATCHED;
        let watcher = received.cap(1).filter(|_| is_watched).and_then(keep);
        registry.made_natively(create.id, watcher.map(|watcher| (watcher, bits)));
    }
    let mut out = Vec::new();
    if wire::encode(&response, &mut out).is_err() || out.len() > view.length() {
        return malformed;
    }
    // SAFETY: the answer fits the view; the client may change the bytes meanwhile, which harms only itself.
    unsafe { core::ptr::copy_nonoverlapping(out.as_ptr(), view.pointer(), out.len()) };
    Message::new(0, [out.len() as u64, 0, 0, 0])
}

/// Copies the request out before anything looks at it: the client may still write to its Space.
fn read(view: &View) -> Option<Request> {
    let mut prefix = [0; 4];
    view.read(0, &mut prefix).ok()?;
    let length = usize::try_from(u32::from_le_bytes(prefix)).ok()?;
    let length = length.checked_add(prefix.len()).filter(|length| *length <= view.length())?;
    let mut bytes = alloc::vec![0; length];
    view.read(0, &mut bytes).ok()?;
    wire::decode(&bytes).ok().flatten().map(|(request, _)| request)
}

/// A capability of our own for a received Notification.
fn keep(slot: u32) -> Option<Notification> {
    let own = rt::slots::take().ok()?;
    match rt::object::copy(slot, Domain::OWN, own, Rights::SEND) {
        Ok(()) => Some(Notification(own)),
        Err(_) => {
            rt::slots::give_back(own);
            None
        }
    }
}
