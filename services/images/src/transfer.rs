//! The daemon's channel: requests, and the bytes of a blob on their way in.

use crate::store::{Blob, Store};
use alloc::{string::ToString, vec, vec::Vec};
use contract::{
    images::{Digest, Request, Response},
    wire::{self, Decoder},
};
use rt::{
    Domain, Space,
    abi::{
        PAGE_SIZE,
        space::{Access, SpaceUse},
    },
    port::Port,
    view::View,
};
use sha2::{Digest as _, Sha256};

/// Bytes read from the port at once.
const CHUNK: usize = 8192;
/// Largest blob.
const MAX_BLOB: u64 = 8 << 30;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;

/// A blob on its way in. Without a Space its bytes are read and forgotten, so that the channel stays in step.
struct Incoming {
    digest: Digest,
    length: u64,
    received: u64,
    hash: Sha256,
    target: Option<(Space, View)>,
}

/// The channel.
pub(crate) struct Channel {
    port: Port,
    decoder: Decoder,
    incoming: Option<Incoming>,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Channel {
    /// A channel on which nothing was said.
    pub(crate) fn new(port: Port) -> Self {
        Self {
            port,
            decoder: Decoder::new(),
            incoming: None,
            out: Vec::new(),
            buffer: vec![0; CHUNK],
        }
    }

    /// Does everything that can be done now.
    pub(crate) fn serve(&mut self, store: &mut Store) {
        loop {
            if let Ok(count) = self.port.write(&self.out) {
                self.out.drain(..count);
            }
            if !self.out.is_empty() {
                return;
            }
            let count = match self.port.read(&mut self.buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            self.decoder.feed(self.buffer.get(..count).unwrap_or_default());
            while self.step(store) {}
        }
    }

    /// Takes the next part of the stream; whether there may be more.
    fn step(&mut self, store: &mut Store) -> bool {
        if let Some(mut incoming) = self.incoming.take() {
            let left = incoming.length - incoming.received;
            let bytes = self.decoder.take_raw(usize::try_from(left).unwrap_or(usize::MAX));
            incoming.add(&bytes);
            if incoming.received < incoming.length {
                self.incoming = Some(incoming);
                return false;
            }
            let response = incoming.finish(store);
            self.answer(&response);
            return true;
        }
        match self.decoder.next::<Request>() {
            Ok(Some(Request::Put { digest, length })) => {
                self.incoming = Some(Incoming::begin(digest, length, store));
                true
            }
            Ok(Some(Request::List)) => {
                self.answer(&Response::Blobs(store.list()));
                true
            }
            Ok(Some(Request::Remove { digest })) => {
                let response =
                    if store.remove(&digest) { Response::Done } else { Response::Unknown };
                self.answer(&response);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.answer(&Response::Refused(alloc::format!("malformed request: {error:?}")));
                self.port.close();
                false
            }
        }
    }

    fn answer(&mut self, response: &Response) {
        if wire::encode(response, &mut self.out).is_err() {
            let _ = wire::encode(
                &Response::Refused("the answer is too long".to_string()),
                &mut self.out,
            );
        }
    }
}

impl Incoming {
    fn begin(digest: Digest, length: u64, store: &Store) -> Self {
        let fits = length <= MAX_BLOB && length > 0 && store.has_room();
        let target = fits.then(|| allocate(length).ok()).flatten();
        Self { digest, length, received: 0, hash: Sha256::new(), target }
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some((_, view)) = &self.target {
            let at = self.received as usize;
            if at.checked_add(bytes.len()).is_some_and(|end| end <= view.length()) {
                // SAFETY: the range is inside the view, which nobody else maps yet.
                unsafe {
                    core::ptr::copy_nonoverlapping(
                        bytes.as_ptr(),
                        view.pointer().wrapping_add(at),
                        bytes.len(),
                    );
                };
            }
            self.hash.update(bytes);
        }
        self.received += bytes.len() as u64;
    }

    /// Publishes the blob if it is what was announced.
    fn finish(self, store: &mut Store) -> Response {
        let Some((space, view)) = self.target else { return Response::OutOfMemory };
        let actual: Digest = self.hash.finalize().into();
        drop(view);
        if actual != self.digest {
            let _ = space.destroy();
            return Response::WrongDigest { actual };
        }
        if let Err(error) = space.freeze() {
            let _ = space.destroy();
            return Response::Refused(alloc::format!("the blob cannot be frozen: {error:?}"));
        }
        store.publish(self.digest, Blob { space, length: self.length });
        Response::Done
    }
}

/// Memory for a blob, with frames, so that running out shows now.
fn allocate(length: u64) -> rt::Result<(Space, View)> {
    let pages = length.div_ceil(PAGE_SIZE);
    let space = Space::create(Domain::OWN, SpaceUse::Hold, None)?;
    let access = Access::READ | Access::WRITE;
    let view = space
        .zero(0, pages, access | Access::empty(), POPULATE)
        .and_then(|()| View::map(space, 0, pages, access))
        .inspect_err(|_| {
            let _ = space.destroy();
        })?;
    Ok((space, view))
}
