//! The personality's program: reads what it was handed, sets the system up, then serves the daemon.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::{format, rc::Rc, vec::Vec};
use contract::{compartment::Spec, wire};
use core::cell::{Cell, RefCell};
use personality::{
    file::{Node, layers::Layers},
    file_system,
    machine::{Shared, layer::Layer},
    session::{self, Session},
    system::{SYSTEM, System, Terminals, time},
    task::Processes,
};
use rt::{
    Notification, Space,
    port::{Port, Side},
    startup, template,
};

/// Pages that the personality keeps for itself where memory is limited: it must be able to end processes when programs have taken all there is.
const RESERVE: u64 = 64;

rt::entry!(main);

fn main() {
    if let Err(what) = run() {
        rt::log!("personality: {what}");
    }
}

fn run() -> Result<(), &'static str> {
    let block = startup::block().ok_or("there is no start-up block")?;
    if template::is_wanted() {
        let prepared = prepare()?;
        file_system::explore(&prepared.root);
        prepared.layers.forget_windows();
        PREPARED.set(prepared);
        template::rest()
    }
    let (spec, _): (Spec, _) =
        wire::decode(block.payload).ok().flatten().ok_or("the spec is malformed")?;
    if spec.budget.memory.is_some() {
        rt::heap::keep_reserve(RESERVE).map_err(|_| "the memory limit is too low")?;
    }
    time::set_epoch(spec.epoch_nanoseconds.saturating_sub(rt::clock::since_boot()));
    let prepared = PREPARED.take().map_or_else(prepare, Ok)?;
    let Prepared { root, processes, terminals, .. } = prepared;
    if prepared.has_made_folders {
        // A template does not know the time of day.
        root.touch_modified();
    }
    file_system::furnish(&root, &spec).map_err(|_| "the file systems cannot be set up")?;
    let notification = startup::capability("port.notification").map(Notification);
    let waits = spec.wait_for_start;
    SYSTEM.set(System {
        processes,
        root,
        hostname: RefCell::new(spec.hostname.clone().into_bytes()),
        domainname: RefCell::new(b"(none)".to_vec()),
        network: Rc::default(),
        terminals,
        futexes: Default::default(),
        shortage: Default::default(),
        gaps: Default::default(),
        budget: spec.budget.clone(),
        mounts: spec.mounts.clone(),
        session: Session::new(open_port(), spec),
        timer_thread: Cell::new(None),
        timer_next: Cell::new(u64::MAX),
        vdso: Default::default(),
        log: Vec::new(),
    });
    if !waits {
        SYSTEM.with(|system| {
            let first = system.session.waiting.take();
            if let Some(first) = first {
                session::start(system, 0, first);
            }
            session::flush_if_dirty(system);
        });
    }
    loop {
        match notification {
            Some(notification) => {
                let _ = notification.wait(u64::MAX, rt::object::FOREVER);
                SYSTEM.with(session::serve);
            }
            None => rt::thread::park(),
        }
    }
}

/// What depends on the layers alone.
struct Prepared {
    layers: Rc<Layers>,
    /// Mount points that the image lacks.
    has_made_folders: bool,
    root: Rc<Node>,
    processes: Rc<Processes>,
    terminals: Rc<Terminals>,
}

/// What a template has prepared for those that begin with its memory.
static PREPARED: Shared<Prepared> = Shared::new();

/// Prepares what every container of these layers has. Nothing here may ask for randomness or for objects of the kernel: see [`rt::template`].
fn prepare() -> Result<Prepared, &'static str> {
    let layers = open_layers().map_err(|_| "a layer is no EROFS image")?;
    let root = layers.root().map_err(|_| "a layer is broken")?;
    let (processes, terminals) = (Rc::default(), Rc::default());
    let before = root.meta().modified;
    file_system::mount_common(&root, &processes, &terminals)
        .map_err(|_| "the file systems cannot be mounted")?;
    let has_made_folders = root.meta().modified != before;
    Ok(Prepared { layers, has_made_folders, root, processes, terminals })
}

/// The layers by their names, lowest first.
fn open_layers() -> Result<Rc<Layers>, personality::linux::Errno> {
    let mut layers = Vec::new();
    for index in 0..startup::value("layers").unwrap_or(0) {
        let name = format!("layer.{index}");
        let (Some(slot), Some(length)) = (startup::capability(&name), startup::value(&name)) else {
            break;
        };
        layers.push(Layer::new(Space(slot), length)?);
    }
    Layers::open(layers)
}

fn open_port() -> Option<Port> {
    let (space, doorbell) =
        (startup::capability("port.space")?, startup::capability("port.doorbell")?);
    let bits = startup::value("port.bits")?;
    Port::open(Space(space), Side::Program, Notification(doorbell), bits).ok()
}
