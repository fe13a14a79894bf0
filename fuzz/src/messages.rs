//! The control channel, the services behind it, and the daemon's socket.

use contract::{
    channel::{Frame, HEADER_LENGTH},
    compartment::{FromCompartment, Spec, ToCompartment},
    compartments, images, startup, system,
    wire::{Decoder, WireError, encode},
};
use daemon::api::{FromDaemon, Hello, ToDaemon};

/// A header of the channel that is accepted is the only one that says so, as far as its fields have a meaning.
pub(crate) fn channel(bytes: &[u8]) {
    for header in bytes.windows(HEADER_LENGTH) {
        let Ok(header) = header.try_into() else { continue };
        if let Ok(frame) = Frame::decode(header) {
            assert_eq!(Frame::decode(frame.encode()), Ok(frame));
        }
    }
}

/// Reads a stream in portions as messages of one type; those that are accepted can be sent again.
fn stream<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    for portion in bytes.chunks(7) {
        decoder.feed(portion);
        loop {
            match decoder.next::<T>() {
                Ok(Some(message)) => {
                    let mut again = Vec::new();
                    // Only what is longer than a message may be has no encoding.
                    let encoded = encode(&message, &mut again);
                    assert!(matches!(encoded, Ok(()) | Err(WireError::TooLong(_))));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    decoder.take_raw(bytes.len());
}

/// The command line's and the daemon's side of the socket.
pub(crate) fn daemon(bytes: &[u8]) {
    stream::<Hello>(bytes);
    stream::<ToDaemon>(bytes);
    stream::<FromDaemon>(bytes);
}

/// The daemon's, the services' and a compartment's side of their channels.
pub(crate) fn services(bytes: &[u8]) {
    stream::<compartments::Request>(bytes);
    stream::<compartments::Response>(bytes);
    stream::<images::Request>(bytes);
    stream::<images::Response>(bytes);
    stream::<system::Request>(bytes);
    stream::<system::Response>(bytes);
    stream::<ToCompartment>(bytes);
    stream::<FromCompartment>(bytes);
    stream::<Spec>(bytes);
    let _ = contract::wire::decode::<startup::Startup<'_>>(bytes);
    // A description that is refused is an error like any other.
    let _ = system::decode(bytes);
}
