//! The rules of the control channel, apart from devices and rings: frames in, frames out, credit.
//!
//! Nothing here believes the daemon: a frame that breaks the rules makes the connection unusable, and every port and the daemon are told that it is
//! closed. What comes for a channel that has no program (any more) breaks no rule, because the daemon may not know that yet: it is passed over.

use alloc::collections::{BTreeMap, VecDeque};
use contract::{
    VERSION,
    channel::{Frame, HEADER_LENGTH, MAX_DATA, well_known},
};

/// Channels that may be known at once.
pub(crate) const MAX_CHANNELS: usize = 8192;

/// A program's side of a channel, as the switch sees it.
pub(crate) trait Sink {
    /// Takes bytes for which credit was granted; false if it cannot, which breaks the rules of the ring.
    fn accept(&mut self, channel: u32, bytes: &[u8]) -> bool;
    /// The daemon will send no more.
    fn end(&mut self, channel: u32);
}

/// A channel.
#[derive(Debug, Default)]
struct Channel {
    /// Bytes the daemon may still send.
    granted: u32,
    /// Bytes that may still be sent to the daemon.
    credit: u32,
    /// A program is behind it.
    is_open: bool,
    /// The daemon has said that it will send no more.
    ended: bool,
}

/// Where the incoming stream stands.
#[derive(Debug)]
enum Incoming {
    Header { bytes: [u8; HEADER_LENGTH], count: usize },
    Data { channel: u32, left: u32 },
    Broken,
}

/// The state of the connection.
#[derive(Debug)]
pub(crate) struct Switch {
    channels: BTreeMap<u32, Channel>,
    incoming: Incoming,
    control: VecDeque<Frame>,
    greeted: bool,
}

impl Switch {
    /// A connection on which nothing was said but our greeting.
    pub(crate) fn new() -> Self {
        Self {
            channels: BTreeMap::new(),
            incoming: Incoming::Header { bytes: [0; HEADER_LENGTH], count: 0 },
            control: VecDeque::from([Frame::Hello { version: VERSION }]),
            greeted: false,
        }
    }

    /// Takes received bytes.
    pub(crate) fn receive(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.incoming {
                Incoming::Broken => return,
                Incoming::Header { bytes, count } => {
                    let Some((first, more)) = rest.split_first() else { return };
                    if let Some(place) = bytes.get_mut(*count) {
                        *place = *first;
                    }
                    *count += 1;
                    rest = more;
                    if *count == HEADER_LENGTH {
                        let header = *bytes;
                        self.incoming = Incoming::Header { bytes: [0; HEADER_LENGTH], count: 0 };
                        self.frame(header, sink);
                    }
                }
                Incoming::Data { channel, left } => {
                    let (now, more) = rest.split_at(rest.len().min(*left as usize));
                    let (channel, left) = (*channel, *left - now.len() as u32);
                    rest = more;
                    self.incoming = if left == 0 {
                        Incoming::Header { bytes: [0; HEADER_LENGTH], count: 0 }
                    } else {
                        Incoming::Data { channel, left }
                    };
                    if !sink.accept(channel, now) {
                        sink.end(channel);
                    }
                }
            }
        }
    }

    fn frame(&mut self, header: [u8; HEADER_LENGTH], sink: &mut impl Sink) {
        match Frame::decode(header) {
            Ok(Frame::Hello { version }) if version == VERSION && !self.greeted => {
                self.greeted = true;
            }
            Ok(Frame::Data { channel, length }) => {
                let open = self.channels.get_mut(&channel).filter(|channel| channel.is_open);
                match open.map(|channel| &mut channel.granted) {
                    Some(granted) if *granted < length => return self.fail(sink),
                    Some(granted) => *granted -= length,
                    None => {}
                }
                self.incoming = Incoming::Data { channel, left: length };
            }
            Ok(Frame::Credit { channel, bytes }) => {
                // A service opens its channel when it likes, a compartment before the daemon hears of it.
                if channel < well_known::FIRST_COMPARTMENT {
                    self.channels.entry(channel).or_default();
                }
                if let Some(known) = self.channels.get_mut(&channel) {
                    known.credit = known.credit.saturating_add(bytes);
                }
            }
            Ok(Frame::Close { channel }) => {
                if let Some(known) = self.channels.get_mut(&channel) {
                    known.ended = true;
                    if known.is_open {
                        sink.end(channel);
                    }
                }
            }
            _ => self.fail(sink),
        }
    }

    /// The daemon broke the rules.
    fn fail(&mut self, sink: &mut impl Sink) {
        self.incoming = Incoming::Broken;
        rt::log!(
            "control: the daemon broke the rules of the channel; it is not listened to any more"
        );
        for (number, channel) in &self.channels {
            if channel.is_open {
                sink.end(*number);
                self.control.push_back(Frame::Close { channel: *number });
            }
        }
    }

    /// Whether a program is behind a channel.
    pub(crate) fn is_open(&self, channel: u32) -> bool {
        self.channels.get(&channel).is_some_and(|channel| channel.is_open)
    }

    /// A program is behind a channel from now on; false if there are too many.
    pub(crate) fn open(&mut self, channel: u32) -> bool {
        if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(&channel) {
            return false;
        }
        self.channels.entry(channel).or_default().is_open = true;
        true
    }

    /// The program behind a channel is gone and all it said was sent.
    pub(crate) fn close(&mut self, channel: u32) {
        if self.channels.remove(&channel).is_some() {
            self.control.push_back(Frame::Close { channel });
        }
    }

    /// The program's ring has room for this many bytes: tells the daemon if that is worth a frame.
    pub(crate) fn grant(&mut self, channel: u32, room: usize) {
        // The rest of a frame that has begun to arrive has used its credit up but is not in the ring yet.
        let arriving = match self.incoming {
            Incoming::Data { channel: other, left } if other == channel => left,
            _ => 0,
        };
        let Some(known) =
            self.channels.get_mut(&channel).filter(|known| known.is_open && !known.ended)
        else {
            return;
        };
        let more = (room as u32).saturating_sub(known.granted).saturating_sub(arriving);
        if more >= contract::ring::CAPACITY / 4 {
            known.granted += more;
            self.control.push_back(Frame::Credit { channel, bytes: more });
        }
    }

    /// Bytes that may be sent to the daemon on a channel in one frame.
    pub(crate) fn sendable(&self, channel: u32) -> usize {
        self.channels.get(&channel).map_or(0, |channel| channel.credit.min(MAX_DATA) as usize)
    }

    /// Notes that bytes were sent.
    pub(crate) fn sent(&mut self, channel: u32, bytes: usize) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.credit = channel.credit.saturating_sub(bytes as u32);
        }
    }

    /// The next frame without data, if there is one.
    pub(crate) fn next_control(&mut self) -> Option<Frame> {
        self.control.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[derive(Default)]
    struct Program {
        bytes: Vec<u8>,
        ended: Vec<u32>,
    }

    impl Sink for Program {
        fn accept(&mut self, _channel: u32, bytes: &[u8]) -> bool {
            self.bytes.extend_from_slice(bytes);
            true
        }
        fn end(&mut self, channel: u32) {
            self.ended.push(channel);
        }
    }

    fn stream(frames: &[(Frame, &[u8])]) -> Vec<u8> {
        frames.iter().flat_map(|(frame, data)| [frame.encode().as_slice(), data].concat()).collect()
    }

    #[test]
    fn data_arrives_in_any_fragmentation() {
        let bytes = stream(&[
            (Frame::Hello { version: VERSION }, b""),
            (Frame::Data { channel: 16, length: 5 }, b"hello"),
            (Frame::Data { channel: 16, length: 1 }, b"!"),
            (Frame::Close { channel: 16 }, b""),
        ]);
        for portion in 1..bytes.len() {
            let (mut switch, mut program) = (Switch::new(), Program::default());
            assert!(switch.open(16));
            switch.grant(16, 16 * 1024);
            bytes.chunks(portion).for_each(|part| switch.receive(part, &mut program));
            assert_eq!(
                (program.bytes.as_slice(), program.ended.as_slice()),
                (&b"hello!"[..], &[16][..])
            );
        }
    }

    #[test]
    fn room_that_a_frame_will_fill_is_not_granted_again() {
        const ROOM: usize = 16 * 1024;
        let (mut switch, mut program) = (Switch::new(), Program::default());
        assert!(switch.open(16));
        switch.grant(16, ROOM);
        let frame = stream(&[(Frame::Data { channel: 16, length: 12_000 }, &[7; 12_000])]);
        let (first, rest) = frame.split_at(HEADER_LENGTH + 1000);
        switch.receive(first, &mut program);
        while switch.next_control().is_some() {}
        switch.grant(16, ROOM - 1000);
        assert_eq!(switch.next_control(), None);
        switch.receive(rest, &mut program);
        switch.grant(16, ROOM);
        assert_eq!(switch.next_control(), Some(Frame::Credit { channel: 16, bytes: 12_000 }));
    }

    #[test]
    fn data_beyond_the_credit_ends_the_connection() {
        let (mut switch, mut program) = (Switch::new(), Program::default());
        assert!(switch.open(16));
        switch.grant(16, 8192);
        switch.receive(
            &stream(&[(Frame::Data { channel: 16, length: 8193 }, &[0; 8193])]),
            &mut program,
        );
        assert!(program.bytes.is_empty());
        assert_eq!(program.ended, [16]);
        switch.receive(&stream(&[(Frame::Data { channel: 16, length: 1 }, b"x")]), &mut program);
        assert!(program.bytes.is_empty());
    }

    #[test]
    fn an_unknown_frame_ends_the_connection_and_the_daemon_is_told() {
        let (mut switch, mut program) = (Switch::new(), Program::default());
        assert!(switch.open(16));
        switch.receive(&[0xff; HEADER_LENGTH], &mut program);
        assert!(matches!(switch.incoming, Incoming::Broken));
        assert_eq!(program.ended, [16]);
        assert!(matches!(switch.next_control(), Some(Frame::Hello { .. })));
        assert_eq!(switch.next_control(), Some(Frame::Close { channel: 16 }));
    }

    #[test]
    fn what_was_under_way_to_a_program_that_has_gone_is_passed_over() {
        let (mut switch, mut program) = (Switch::new(), Program::default());
        assert!(switch.open(16) && switch.open(17));
        switch.grant(16, 16 * 1024);
        switch.grant(17, 16 * 1024);
        switch.close(16);
        switch.receive(
            &stream(&[
                (Frame::Data { channel: 16, length: 3 }, b"old"),
                (Frame::Credit { channel: 16, bytes: 7 }, b""),
                (Frame::Close { channel: 16 }, b""),
                (Frame::Data { channel: 99, length: 4 }, b"what"),
                (Frame::Data { channel: 17, length: 3 }, b"new"),
            ]),
            &mut Discarding(&mut program, 17),
        );
        assert_eq!(program.bytes, b"new");
        assert_eq!(switch.channels.keys().copied().collect::<Vec<_>>(), [17]);
    }

    /// Takes bytes of one channel, as the rings do that know no other.
    struct Discarding<'a>(&'a mut Program, u32);

    impl Sink for Discarding<'_> {
        fn accept(&mut self, channel: u32, bytes: &[u8]) -> bool {
            channel != self.1 || self.0.accept(channel, bytes)
        }
        fn end(&mut self, channel: u32) {
            self.0.end(channel);
        }
    }

    #[test]
    fn credit_is_granted_in_portions_and_used_up() {
        let mut switch = Switch::new();
        assert!(switch.open(16));
        assert!(matches!(switch.next_control(), Some(Frame::Hello { .. })));
        switch.grant(16, 16 * 1024);
        assert_eq!(switch.next_control(), Some(Frame::Credit { channel: 16, bytes: 16 * 1024 }));
        switch.grant(16, 16 * 1024);
        assert_eq!(switch.next_control(), None);
        switch.receive(&Frame::Credit { channel: 16, bytes: 10 }.encode(), &mut Program::default());
        assert_eq!(switch.sendable(16), 10);
        switch.sent(16, 4);
        assert_eq!(switch.sendable(16), 6);
        switch.close(16);
        assert_eq!(switch.next_control(), Some(Frame::Close { channel: 16 }));
        assert!(!switch.is_open(16));
    }
}
