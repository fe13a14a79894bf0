//! Every kernel operation, specified once.
//!
//! The table below is the source of the [`Operation`] enum and (with the feature `manual`) of `docs/kernel-manual.md`. Arguments are listed in
//! register order (`rdi rsi rdx r10 r8 r9`). "range" means page-aligned offset and a number of pages. An operation on a range does a bounded slice and
//! returns the number of pages it has dealt with: the prefix is done, the rest untouched; the caller goes on from there. Everything is decoded and
//! checked before anything changes. A Domain argument of 0 means the caller's own Domain with all rights except `DESTROY`. New objects are charged to the named Domain; their
//! capability (all rights) goes into the named slot of the caller's table. A deadline is an absolute TSC value; 0 means "do not wait", `u64::MAX` "no limit".

use bitflags::bitflags;

macro_rules! operations {
    ($( $number:literal $name:ident $purpose:literal
        args [$($arg:literal),*] rights $rights:literal returns $returns:literal errors [$($error:ident $cause:literal),*] )*) => {
        /// Number of a kernel operation (`rax`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Operation { $( #[doc = $purpose] $name = $number, )* }

        impl Operation {
            /// Decodes an operation number.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )* _ => None }
            }
            /// Every operation in order of its number.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];
        }

        /// The manual's entry of every operation.
        #[cfg(feature = "manual")]
        pub const MANUAL: &[Entry] = &[ $( Entry {
            operation: Operation::$name, name: stringify!($name), purpose: $purpose, arguments: &[$($arg),*],
            rights: $rights, returns: $returns, errors: &[$((crate::Error::$error, $cause)),*],
        }, )* ];
    };
}

/// One entry of the kernel manual.
#[cfg(feature = "manual")]
#[derive(Debug)]
pub struct Entry {
    /// The operation.
    pub operation: Operation,
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Arguments in register order, with units.
    pub arguments: &'static [&'static str],
    /// Rights needed.
    pub rights: &'static str,
    /// Results.
    pub returns: &'static str,
    /// Every error with its cause, beyond `UnknownOperation`; a capability argument adds `NoCapability`, `WrongKind`, `MissingRight`.
    pub errors: &'static [(crate::Error, &'static str)],
}

operations! {
    // The calling thread.
    0 ThreadYield "Lets other runnable threads of this CPU run."
        args [] rights "none" returns "0" errors []
    1 ThreadExit "Ends the calling thread; it never runs again."
        args [] rights "none" returns "does not return" errors []
    2 ThreadPark "Blocks until the thread is unparked, kicked, or the deadline passes; an unpark that came before is consumed at once."
        args ["deadline (TSC)"] rights "none" returns "0 when unparked"
        errors [TimedOut "the deadline passed", Kicked "a kick ended the wait (the kick is consumed)"]
    3 GuestEnter "Runs the guest from the state page until an exit, see `guest`."
        args [] rights "none" returns "an `Exit` number"
        errors [WrongState "the thread has no state page or no attached guest Space"]
    4 GuestAttach "Makes another guest Space the lower half of this thread (0: none)."
        args ["guest Space"] rights "RUN" returns "0"
        errors [BadArgument "the Space is not a guest Space of this thread's home"]
    5 FaultReturn "Acknowledges a fault in home mode and continues from the state page's `home` registers."
        args [] rights "none" returns "does not return" errors [WrongState "no fault is being handled"]
    6 FaultHandler "Registers where faults in home mode continue; without one they kill the Domain. A second fault before FaultReturn kills it too."
        args ["entry address", "stack pointer"] rights "none" returns "0" errors [BadArgument "not in the home region", WrongState "the thread has no state page"]
    7 Log "Appends up to 32 bytes to the kernel log (debugging and crash dumps; rate-limited per Domain)."
        args ["length", "bytes 0..8", "bytes 8..16", "bytes 16..24", "bytes 24..32"] rights "none" returns "0" errors [BadArgument "length above 32"]
    8 Clock "Tells the time base: TSC ticks per second, and the TSC at boot in rdx."
        args [] rights "none" returns "ticks per second; rdx: TSC at boot" errors []
    9 Random "Sixteen bytes from the kernel's generator."
        args [] rights "none" returns "bytes 0..8 in rdx, bytes 8..16 in rdi; rax 0" errors []

    // Capabilities.
    16 CapCopy "Copies a capability of the caller's table into a Domain's table."
        args ["Domain (destination)", "source slot (own table)", "destination slot", "rights mask"] rights "GRANT on the Domain; COPY on the source unless the Domain is 0" returns "0"
        errors [SlotOccupied "destination slot", OutOfObjects "slot budget", OutOfFrames "table page", DomainDead "destination", BadArgument "slot number"]
    17 CapDelete "Empties a slot; the object lives on if others refer to it."
        args ["Domain", "slot"] rights "GRANT on the Domain" returns "0" errors [NoCapability "the slot is empty"]
    18 CapNext "Finds the next occupied slot at or after a number: for complete listings."
        args ["Domain", "first slot"] rights "INSPECT on the Domain" returns "slot; rdx: kind | rights << 16 | object identity << 32, or 0 if the slice found none: go on at the slot" errors [NotPresent "no further slot"]
    19 ObjectDestroy "Destroys an object for all its holders: a Gate, Thread, Space, Endpoint, Reply, Notification, Irq, or a Domain with all that is in it."
        args ["capability"] rights "DESTROY" returns "0" errors []

    // Domains.
    24 DomainCreate "Creates a child Domain with its own table and budget, limited by its parents' as well."
        args ["Domain (parent)", "slot", "frames", "objects", "slots", "threads"] rights "CREATE" returns "0"
        errors [SlotOccupied "slot", OutOfFrames "parent", OutOfObjects "parent", DomainDead "parent"]
    25 DomainBudget "Changes one limit of a Domain."
        args ["Domain", "resource number", "limit (UNLIMITED: none)"] rights "BUDGET" returns "0" errors [BadArgument "resource number, or one that is only reported"]
    26 DomainSchedule "Changes how a Domain is scheduled."
        args ["Domain", "weight 1..10000", "quota (TSC ticks per period, UNLIMITED: none)", "period (TSC ticks)", "CPU set (bit mask, 0: all)", "latency class (0: compartment, 1: service)"]
        rights "BUDGET; latency class 1 needs a caller of class 1" returns "0" errors [BadArgument "a value outside its range, no CPU of the set exists"]
    27 DomainStat "Reads use and limit of one resource."
        args ["Domain", "resource number"] rights "INSPECT" returns "current use; rdx: limit; rdi: peak use" errors [BadArgument "resource number"]
    28 DomainWatch "Asks for a Notification to be signalled when the Domain has died (its threads have stopped) and, with the next higher bit, when it has been reaped."
        args ["Domain", "Notification", "bit number 0..62"] rights "INSPECT; SEND on the Notification" returns "0" errors [BadArgument "bit number", WrongState "a watch exists already"]

    // Spaces.
    32 SpaceCreate "Creates a Space."
        args ["Domain", "slot", "use (SpaceUse)", "home Space (for guest Spaces)"] rights "CREATE; RUN on the home Space" returns "0"
        errors [SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "budget", DomainDead "Domain", BadArgument "use, or the home is no home Space"]
    33 SpaceZero "Leaves demand-zero markers in a range of holes; bit 8 of the access word populates the pages at once, bit 9 sets the shared bit, bit 10 lets them be made executable later, bit 11 writable."
        args ["Space", "offset", "pages", "access (also the maximum, but for bits 10 and 11)"] rights "EDIT" returns "pages done"
        errors [Overlap "a page in the slice is not a hole", Frozen "the Space is frozen", OutOfFrames "budget", BadArgument "range or access; write with execute is allowed only in guest Spaces"]
    34 SpaceMap "Maps a range of one Space into another, see `MapMode`."
        args ["destination Space", "destination offset", "source Space", "source offset", "pages", "mode | access << 16 | MAP_SHARED_BIT"] rights "EDIT on the destination; MAP_* on the source as the access needs; EDIT on the source for Snapshot and Move" returns "pages done"
        errors [Overlap "destination page occupied, or the ranges overlap", Hole "a hole of the source, across Domains", Frozen "the destination is frozen, or the source is for Snapshot, Move or a writable Share", OutOfFrames "budget", FrameInUse "a count would overflow", BadArgument "range, mode or access"]
    35 SpaceProtect "Changes the access of a range within each page's maximum; no access keeps the frame."
        args ["Space", "offset", "pages", "access"] rights "EDIT" returns "pages done" errors [MissingRight "access beyond a page's maximum (the slice stops before it)", Frozen "frozen", BadArgument "range or access"]
    36 SpaceUnmap "Makes a range holes again."
        args ["Space", "offset", "pages"] rights "EDIT" returns "pages done" errors [Frozen "frozen", BadArgument "range"]
    37 SpaceFreeze "Makes a Space immutable for ever. Works in slices: returns 1 when it is done, 0 when to be called again."
        args ["Space"] rights "FREEZE" returns "1 done, 0 more" errors [FrameInUse "a frame has further references or a pin", BadArgument "a home or guest Space"]
    38 SpaceQuery "Describes the first non-hole at or after an offset, within a number of pages. A slice that ends before it finds one answers with a hole at the page where to go on."
        args ["Space", "offset", "pages"] rights "MAP_READ" returns "offset; rdx: PageState | access << 8 | accessed << 16 | dirty << 17 | pages of the same state that follow << 32" errors [NotPresent "only holes", BadArgument "range"]
    39 SpacePin "Pins a populated page for DMA and tells its physical address; pins are released by ObjectDestroy of the Space, after the device is reset."
        args ["Hardware", "Space", "offset"] rights "SEND on the Hardware; EDIT on the Space" returns "physical address" errors [Hole "not populated", FrameInUse "copy-on-write or borrowed"]
    40 SpaceCopy "Copies whole pages between two Spaces through the kernel; destination pages must be populated and writable or demand-zero."
        args ["destination Space", "destination offset", "source Space", "source offset", "pages"] rights "EDIT on the destination, MAP_READ on the source" returns "pages done" errors [Hole "a hole on either side", Frozen "destination", OutOfFrames "budget", BadArgument "range"]
    41 SpaceResolve "Does for a page what a touch would: populates a demand-zero page or breaks copy-on-write."
        args ["Space", "offset", "pages", "access wanted"] rights "EDIT" returns "pages done" errors [Hole "a hole", MissingRight "access beyond the page's", OutOfFrames "budget", Frozen "frozen"]
    42 SpaceDiscard "Gives the frames of a range back: its pages become demand-zero with the access and maximum they have. Holes and device memory stay."
        args ["Space", "offset", "pages"] rights "EDIT" returns "pages done" errors [Frozen "frozen", FrameInUse "a pinned page (the slice stops before it)", BadArgument "range"]

    // Threads.
    48 ThreadCreate "Creates a stopped thread in a home Space; a state page (0: none) makes it able to run guests."
        args ["Domain", "slot", "home Space", "home offset of the state page (a populated, writable page) or 0"] rights "CREATE; RUN on the home Space" returns "0"
        errors [SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "objects or threads", DomainDead "Domain", BadArgument "Space or state page"]
    49 ThreadStart "Starts a stopped thread."
        args ["Thread", "entry address", "stack pointer", "argument (its rdi)"] rights "CONTROL" returns "0" errors [WrongState "already started", BadArgument "not in the home region"]
    50 ThreadKick "Makes `GuestEnter`, a park or a wait of the thread return; latched until one does."
        args ["Thread"] rights "CONTROL" returns "0" errors []
    51 ThreadUnpark "Ends a park, or lets the next one return at once."
        args ["Thread"] rights "CONTROL" returns "0" errors []
    52 ThreadAffinity "Restricts a thread to CPUs within its Domain's set."
        args ["Thread", "CPU set (bit mask)", "weight 1..10000 within the Domain (100: normal)"] rights "CONTROL" returns "0" errors [BadArgument "no CPU left, or weight"]
    53 ThreadStat "Reads a thread's CPU time and state."
        args ["Thread"] rights "CONTROL" returns "ticks used; rdx: 0 stopped, 1 runnable, 2 blocked, 3 dead; rdi: ticks spent in the guest" errors []

    // Endpoints, Gates, Replies.
    56 EndpointCreate "Creates an Endpoint."
        args ["Domain", "slot"] rights "CREATE" returns "0" errors [SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "budget", DomainDead "Domain"]
    57 GateCreate "Creates a Gate: one client session of an Endpoint. Destroying it revokes the session and ends its calls in flight."
        args ["Domain", "slot", "Endpoint", "badge", "limit of calls in flight (1..65535)"] rights "CREATE; SEND on the Endpoint" returns "0" errors [SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "budget", DomainDead "Domain", BadArgument "limit"]
    58 ReplyCreate "Creates a Reply object."
        args ["Domain", "slot"] rights "CREATE" returns "0" errors [SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "budget", DomainDead "Domain"]
    59 Call "Sends a message through a Gate and waits for the answer, see `message`."
        args ["Gate", "tag", "word 0", "word 1", "word 2", "word 3"] rights "SEND" returns "0, tag, words" errors [WouldBlock "the Gate's limit", PeerDead "the Endpoint, the Gate or the Reply died", Kicked "the caller was kicked while no server had received the call", BadArgument "capability number or window"]
    60 Receive "Waits for a call on an Endpoint, or for bits of the Notification in word 1 (0: none; result badge u64::MAX and the bits in word 0); round robin over Gates."
        args ["Endpoint", "deadline (TSC)", "Notification or 0"] rights "RECEIVE (both)" returns "0, badge, tag, words; r15 names the Reply and the window" errors [TimedOut "deadline", Kicked "kick", WrongState "the Reply is in use", PeerDead "the Endpoint was destroyed"]
    61 Reply "Answers the call held by a Reply object."
        args ["Reply", "tag", "word 0", "word 1", "word 2", "word 3"] rights "SEND" returns "0" errors [PeerDead "the caller died", WrongState "the Reply holds no call"]
    62 ReplyReceive "Answers the call of the Reply in r15 and receives the next one on the Endpoint into the same Reply, without a deadline."
        args ["Endpoint", "tag", "word 0", "word 1", "word 2", "word 3"] rights "RECEIVE; SEND on the Reply" returns "as Receive" errors [Kicked "kick", PeerDead "the Endpoint was destroyed"]

    // Notifications.
    64 NotificationCreate "Creates a Notification with all bits clear."
        args ["Domain", "slot"] rights "CREATE" returns "0" errors [SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "budget", DomainDead "Domain"]
    65 NotificationSignal "Sets bits and wakes a waiter whose mask matches."
        args ["Notification", "bits"] rights "SEND" returns "0" errors []
    66 NotificationWait "Waits until one of the bits of a mask is set, clears and returns those that are."
        args ["Notification", "mask", "deadline (TSC)"] rights "RECEIVE" returns "0; rdx: bits" errors [TimedOut "deadline", Kicked "kick", PeerDead "destroyed", BadArgument "empty mask"]

    // Hardware: only programs that hold the Hardware capability.
    80 HardwareMemory "Creates a Space (use Hold) of device memory; entries are uncached and never executable."
        args ["Hardware", "slot", "physical address", "pages"] rights "SEND" returns "0" errors [NotPresent "overlaps RAM or the kernel's own devices", BadArgument "range", SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "budget"]
    81 IrqCreate "Creates an Irq that signals a Notification bit: an I/O APIC line, or a message-signalled vector (line = u64::MAX)."
        args ["Hardware", "slot", "line (GSI) or u64::MAX", "trigger (0 edge, 1 level low, 2 level high)", "Notification", "bit number 0..63"] rights "SEND; SEND on the Notification" returns "message address; rdx: message data" errors [NotPresent "no such line, or no vector left", FrameInUse "the line is taken", BadArgument "trigger or bit", SlotOccupied "slot", OutOfFrames "budget", OutOfObjects "budget"]
    82 IrqAck "Lets a level-triggered Irq fire again."
        args ["Irq"] rights "SEND" returns "0" errors []
    83 HardwareInfo "Reads one fact about the machine."
        args ["Hardware", "fact (HardwareFact)"] rights "INSPECT" returns "the fact" errors [NotPresent "unknown fact or not on this machine"]
    84 HardwarePower "Ends the machine: 0 off with an exit status for the emulator, 1 reset."
        args ["Hardware", "action", "status"] rights "DESTROY" returns "does not return" errors [BadArgument "action"]
    85 PortAccess "Reads or writes an I/O port."
        args ["Hardware", "port", "width in bytes (1, 2, 4) | write << 8", "value"] rights "SEND" returns "value read" errors [BadArgument "width, or a port of the kernel's own devices"]
    86 KernelCounter "Reads a counter of the kernel (summed over CPUs) by number, see `HardwareFact` for their number."
        args ["Hardware", "counter"] rights "INSPECT" returns "value; rdx, rdi: first bytes of its name" errors [NotPresent "no such counter"]
}

/// Facts that `HardwareInfo` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum HardwareFact {
    /// Number of CPUs running.
    Cpus = 0,
    /// Frames of RAM the allocator manages.
    TotalFrames = 1,
    /// Frames free.
    FreeFrames = 2,
    /// Physical address of the PCI configuration window (MCFG), segment 0, bus 0.
    PciWindow = 3,
    /// First virtio-mmio window, or absent.
    VirtioMmio = 4,
    /// TSC at the kernel's first instruction.
    FirstInstruction = 5,
    /// Kernel objects alive.
    Objects = 6,
    /// Number of kernel counters.
    Counters = 7,
    /// Longest kernel entry seen, in TSC ticks.
    LongestEntry = 8,
    /// 1 when the TSC is invariant or there is one CPU, so that user code may use it as a clock.
    TscIsClock = 9,
    /// Protections that are on, on the CPU that is asked: bits of [`Protection`].
    Protections = 10,
    /// Frames charged to anybody, with what Domains have drawn in advance.
    UsedFrames = 11,
    /// Slots occupied, as for `UsedFrames`.
    UsedSlots = 12,
    /// Threads, as for `UsedFrames`.
    UsedThreads = 13,
    /// Offset of the kernel command line's bytes: the fact is read as `CommandLine + n`, eight bytes each.
    CommandLine = 0x1000,
}

bitflags! {
    /// Protections of the processor, as `HardwareFact::Protections` tells them from the control registers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u64 {
        /// The kernel cannot execute user pages.
        const SMEP = 1 << 0;
        /// The kernel cannot access user pages.
        const SMAP = 1 << 1;
        /// User mode cannot read descriptor-table registers.
        const UMIP = 1 << 2;
        /// Pages can be not executable.
        const NO_EXECUTE = 1 << 3;
        /// Read-only pages are read-only for the kernel too.
        const WRITE_PROTECT = 1 << 4;
    }
}
