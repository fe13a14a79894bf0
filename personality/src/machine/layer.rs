//! An image layer: a frozen Space, mapped piece by piece when it is looked at.

use alloc::vec::Vec;
use core::cell::RefCell;
use kernel_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    layout::HOME_BASE,
    space::{Access, MapMode},
};
use rt::Space;

/// Pages that are mapped at once.
const WINDOW: u64 = 16;

/// A layer's bytes.
#[derive(Debug)]
pub struct Layer {
    space: Space,
    length: u64,
    offset: u64,
    /// A bit for each window that is mapped.
    mapped: RefCell<Vec<u64>>,
}

impl Layer {
    /// Takes a frozen Space with so many bytes.
    ///
    /// # Errors
    /// When there is no address range for it.
    pub fn new(space: Space, length: u64) -> rt::Result<Self> {
        let pages = length.div_ceil(PAGE_SIZE).max(1);
        let windows = pages.div_ceil(WINDOW);
        let offset = rt::view::reserve(pages)?;
        Ok(Self {
            space,
            length,
            offset,
            mapped: RefCell::new(alloc::vec![0; windows.div_ceil(64) as usize]),
        })
    }

    /// The Space, for mapping parts into guests.
    #[must_use]
    pub const fn space(&self) -> Space {
        self.space
    }

    /// Length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the layer; `None` beyond its end.
    #[must_use]
    pub fn bytes(&self, at: u64, length: usize) -> Option<&[u8]> {
        let end = at.checked_add(length as u64).filter(|end| *end <= self.length)?;
        if length == 0 {
            return Some(&[]);
        }
        for window in (at >> PAGE_SHIFT) / WINDOW..=((end - 1) >> PAGE_SHIFT) / WINDOW {
            self.ensure(window)?;
        }
        let start =
            core::ptr::with_exposed_provenance::<u8>((HOME_BASE + self.offset + at) as usize);
        // SAFETY: the windows are mapped and stay so; the Space is frozen, so its bytes never change.
        Some(unsafe { core::slice::from_raw_parts(start, length) })
    }

    /// Says that nothing is mapped: in what begins with this program's memory, nothing is.
    pub fn forget_windows(&self) {
        self.mapped.borrow_mut().fill(0);
    }

    fn ensure(&self, window: u64) -> Option<()> {
        let mut mapped = self.mapped.borrow_mut();
        let word = mapped.get_mut((window / 64) as usize)?;
        let bit = 1 << (window % 64);
        if *word & bit == 0 {
            let pages = (self.length.div_ceil(PAGE_SIZE) - window * WINDOW).min(WINDOW);
            let skip = window * WINDOW * PAGE_SIZE;
            rt::startup::home_space()
                .map(
                    self.offset + skip,
                    self.space,
                    skip,
                    pages,
                    MapMode::Share,
                    Access::READ,
                    false,
                )
                .ok()?;
            *word |= bit;
        }
        Some(())
    }
}
