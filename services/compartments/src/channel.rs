//! The daemon's channel.

use crate::{PORT_BIT, named, registry::Registry};
use alloc::{format, string::ToString, vec, vec::Vec};
use contract::{
    channel::well_known,
    compartments::{Death, Refusal, Request, Response},
    wire::{self, Decoder},
};
use rt::{
    Gate, Notification,
    abi::Rights,
    message::Message,
    port::{Port, Side},
};

/// Bytes read from the port at once.
const CHUNK: usize = 8192;

/// The channel.
pub(crate) struct Channel {
    port: Port,
    decoder: Decoder,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Channel {
    /// Opens it, if the system has a control service.
    pub(crate) fn open(notification: Notification) -> Option<Self> {
        let gate = Gate(named("control").ok()?);
        let window = rt::slots::take_window().ok()?;
        let message = Message::new(
            contract::control::call::OPEN_PORT,
            [well_known::COMPARTMENTS.into(), PORT_BIT, 0, 0],
        );
        let answer = gate.call(message.with(notification.slot(), Rights::SEND), window).ok()?;
        let [bits, ..] = answer.words;
        let port = Port::open(
            rt::Space(answer.cap(0)?),
            Side::Program,
            Notification(answer.cap(1)?),
            bits,
        )
        .ok()?;
        Some(Self { port, decoder: Decoder::new(), out: Vec::new(), buffer: vec![0; CHUNK] })
    }

    fn flush(&mut self) {
        if let Ok(count) = self.port.write(&self.out) {
            self.out.drain(..count);
        }
    }

    fn answer(&mut self, response: &Response) {
        if wire::encode(response, &mut self.out).is_err() {
            let refusal = Refusal::BadSpec("the answer is too long".to_string());
            let _ = wire::encode(&Response::Refused(refusal), &mut self.out);
        }
    }

    /// Tells of deaths.
    pub(crate) fn tell(&mut self, died: Vec<(u64, Death)>) {
        for (id, death) in died {
            self.answer(&Response::Died { id, death });
        }
        self.flush();
    }

    /// Carries out what has come.
    pub(crate) fn serve(&mut self, registry: &mut Registry) {
        loop {
            self.flush();
            if !self.out.is_empty() {
                return;
            }
            let count = match self.port.read(&mut self.buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            self.decoder.feed(self.buffer.get(..count).unwrap_or_default());
            loop {
                match self.decoder.next::<Request>() {
                    Ok(Some(request)) => {
                        let response = registry.request(&request);
                        self.answer(&response);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.answer(&Response::Refused(Refusal::BadSpec(format!(
                            "malformed request: {error:?}"
                        ))));
                        self.flush();
                        self.port.close();
                        return;
                    }
                }
            }
        }
    }
}
