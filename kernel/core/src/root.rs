//! Starting the root program from the boot module.
//!
//! The module is the only input beside the machine itself; every number in it is checked. Root gets the slots of `abi::cap::root`.

use crate::{
    domain::{Amounts, Domain},
    frames,
    operation::Hardware,
    sched,
    space::{
        Space,
        edit::ZeroOptions,
        map::{self, Mapping},
    },
    thread::Thread,
};
use kernel_abi::{
    Error, PAGE_SHIFT, PAGE_SIZE, Rights,
    boot::{Header, MAGIC, Program, Segment, VERSION},
    cap::root,
    layout::{HOME_BASE, HOME_SIZE, home},
    space::{Access, MapMode, SpaceUse},
};
use kernel_machine::{
    self as machine, Frame, FrameRange,
    object::{AnyRef, Entry, Ref},
};
use zerocopy::FromBytes;

/// Why root cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The machine was booted without a module.
    NoModule,
    /// The module's header or tables are wrong.
    BadModule(&'static str),
    /// An operation failed.
    Kernel(Error),
}

impl From<Error> for BootError {
    fn from(error: Error) -> Self {
        Self::Kernel(error)
    }
}

/// Reads the module's words in the frames it lies in.
struct Module {
    range: FrameRange,
}

impl Module {
    fn read<T: FromBytes, const N: usize>(&self, offset: u64) -> Result<T, BootError> {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = offset.checked_add(index as u64).ok_or(BootError::BadModule("an offset overflows"))?;
            let page = u32::try_from(at >> PAGE_SHIFT)
                .map_err(|_| BootError::BadModule("an offset is too large"))?;
            let number = self.range.start.checked_add(page).filter(|number| *number < self.range.end);
            let frame = Frame::new(number.ok_or(BootError::BadModule("a table leaves the module"))?);
            let place = (at % PAGE_SIZE) as usize;
            let word = machine::table(frame)
                .get(place / 8)
                .map_or(0, |word| word.load(kernel_machine::atomic::Ordering::Relaxed));
            *byte = (word >> (place % 8 * 8)) as u8;
        }
        T::read_from_bytes(&bytes).map_err(|_| BootError::BadModule("a record has another size"))
    }

    fn header(&self) -> Result<Header, BootError> {
        let header: Header = self.read::<Header, { size_of::<Header>() }>(0)?;
        if header.magic != MAGIC {
            return Err(BootError::BadModule("it does not begin with METTBOOT"));
        }
        if header.version != VERSION {
            return Err(BootError::BadModule("its version is another one"));
        }
        if header.program_count == 0 {
            return Err(BootError::BadModule("it has no program"));
        }
        Ok(header)
    }
}

/// Creates the root Domain with all it holds and makes its first thread ready.
pub(crate) fn start(entry: &Entry) -> Result<Ref<Domain>, BootError> {
    let range = machine::boot_memory().module.ok_or(BootError::NoModule)?;
    let module = Module { range };
    let header = module.header()?;
    let program: Program = module.read::<Program, { size_of::<Program>() }>(size_of::<Header>() as u64)?;
    let pages = range.end.saturating_sub(range.start);
    let domain = Domain::root(u64::from(frames::total()) + u64::from(pages)).ok_or(Error::OutOfFrames)?;
    let space = module_space(&domain, range)?;
    let home_space = Space::create(&domain, SpaceUse::Home, None, false)?;
    let segments = size_of::<Header>() as u64 + u64::from(header.program_count) * size_of::<Program>() as u64;
    for index in 0..program.segment_count {
        let at = u64::from(program.first_segment) + u64::from(index);
        let segment =
            module.read::<Segment, { size_of::<Segment>() }>(segments + at * size_of::<Segment>() as u64)?;
        map_segment(&home_space, &space, &segment, entry)?;
    }
    let stack = (home::STACK_TOP - home::STACK_SIZE) >> PAGE_SHIFT;
    zero(&home_space, stack, home::STACK_SIZE >> PAGE_SHIFT, Access::READ | Access::WRITE)?;
    let thread = Thread::create(&domain, home_space.clone(), None)?;
    let hardware = Hardware::create(&domain)?;
    let grants: [(u32, AnyRef); 5] = [
        (root::DOMAIN, domain.clone().into_any()),
        (root::HOME, home_space.into_any()),
        (root::THREAD, thread.clone().into_any()),
        (root::HARDWARE, hardware.into_any()),
        (root::MODULE, space.into_any()),
    ];
    for (slot, object) in grants {
        Domain::install(domain.borrow(), u64::from(slot), object, Rights::ALL, entry)?;
    }
    if !(HOME_BASE..HOME_BASE + HOME_SIZE).contains(&program.entry) {
        return Err(BootError::BadModule("root's entry is outside the home region"));
    }
    Thread::start(thread.borrow(), program.entry, HOME_BASE + home::STACK_TOP, 0)?;
    sched::request_reschedule();
    Ok(domain)
}

/// The whole module as a frozen Space.
fn module_space(domain: &Ref<Domain>, range: FrameRange) -> Result<Ref<Space>, BootError> {
    let space = Space::create(domain, SpaceUse::Hold, None, false)?;
    domain.charge(Amounts::frames(u64::from(range.end.saturating_sub(range.start))))?;
    for (page, number) in (range.start..range.end).enumerate() {
        space.insert(page as u64, Frame::new(number), Access::READ | Access::EXECUTE)?;
    }
    while !space.freeze()? {}
    Ok(space)
}

fn zero(space: &Space, first: u64, pages: u64, access: Access) -> Result<(), Error> {
    let mut done = 0;
    while done < pages {
        done += space.zero(first + done, pages - done, access, ZeroOptions::default())?;
    }
    Ok(())
}

fn map_segment(
    home: &Ref<Space>,
    module: &Ref<Space>,
    segment: &Segment,
    entry: &Entry,
) -> Result<(), BootError> {
    let access =
        Access::from_bits(segment.access).ok_or(BootError::BadModule("a segment's access is unknown"))?;
    if access.contains(Access::WRITE | Access::EXECUTE) {
        return Err(BootError::BadModule("a segment is writable and executable"));
    }
    let to = home.check(segment.home_offset, segment.memory_pages)?;
    if segment.file_pages > segment.memory_pages {
        return Err(BootError::BadModule("a segment is longer in the module than in memory"));
    }
    let mode = if access.contains(Access::WRITE) { MapMode::Private } else { MapMode::Share };
    let mut done = 0;
    if segment.file_pages > 0 {
        let from = module.check(segment.file_offset, segment.file_pages)?;
        while done < segment.file_pages {
            let (to, from, pages) = (to + done, from + done, segment.file_pages - done);
            let mapping = Mapping { to, from, pages, mode, access, may_execute: true, shared: false };
            done += map::map(home.borrow(), module.borrow(), mapping, entry)?;
        }
    }
    zero(home, to + done, segment.memory_pages - done, access)?;
    Ok(())
}
