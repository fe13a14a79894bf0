//! `services/control`: the switch between the control channel and the ports. Calls through a control Gate.

/// Labels of calls.
pub mod call {
    /// Opens a port for a channel. Word 0: channel. Capabilities: the Notification the control service signals to the program; word 1: the bits. Answer:
    /// capabilities 0: the port's Space (map-read, map-write), 1: the Notification the program signals; word 0: the bits to signal.
    pub const OPEN_PORT: u32 = 1;
    /// Closes the port of a channel: what it had sent is still delivered. Word 0: channel.
    pub const CLOSE_PORT: u32 = 2;
    /// Answer label: the channel has a port already, or is reserved.
    pub const TAKEN: u32 = 0x101;
    /// Answer label: the service's budget is exhausted.
    pub const OUT_OF_MEMORY: u32 = 0x102;
    /// Answer label: no such port.
    pub const UNKNOWN: u32 = 0x103;
}
