//! Race shadows of an allocation, made page by page as it is used.
use super::cell::{Conflict, Touch};
use super::shadow::{Me, Shadow};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Words of a page.
const PAGE: u64 = 1024;

/// All pages of an allocation.
pub(crate) struct Pages {
    pages: Box<[OnceLock<Box<Mutex<Page>>>]>,
}

/// The cells of one page, as the launch of that number left them.
pub(crate) struct Page {
    launch: u64,
    shadow: Shadow<false>,
}

impl Pages {
    pub(crate) fn new(bytes: u64) -> Self {
        let count = bytes.div_ceil(4 * PAGE) as usize;
        Pages { pages: (0..count).map(|_| OnceLock::new()).collect() }
    }

    /// The page that holds a word, for a launch. Earlier launches are ordered before.
    pub(crate) fn open(&self, word: u64, launch: u64) -> Option<OpenPage<'_>> {
        let page = self.pages.get((word / PAGE) as usize)?;
        let page =
            page.get_or_init(|| Box::new(Mutex::new(Page { launch, shadow: Shadow::new(PAGE as usize) })));
        let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
        if page.launch != launch {
            page.launch = launch;
            page.shadow.clear();
        }
        Some(OpenPage { number: word / PAGE, page })
    }
}

/// A page that nobody else uses meanwhile.
pub(crate) struct OpenPage<'a> {
    number: u64,
    page: MutexGuard<'a, Page>,
}

impl OpenPage<'_> {
    pub(crate) fn holds(&self, word: u64) -> bool {
        word / PAGE == self.number
    }

    #[inline(always)]
    pub(crate) fn touch(&mut self, word: u64, count: u32, touch: &Touch, me: &Me<'_>) -> Option<Conflict> {
        self.page.shadow.touch((word % PAGE) as u32, count, touch, me)
    }
}
