//! Borrowed slices with the conversions that make call sites short.

use crate::Length;

/// A slice to read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T>(pub(crate) &'a [T]);

/// A slice to write.
#[derive(Debug)]
pub struct ViewMut<'a, T>(pub(crate) &'a mut [T]);

impl<T> Length for View<'_, T> {
    fn length(&self) -> usize {
        self.0.len()
    }
}

impl<T> Length for ViewMut<'_, T> {
    fn length(&self) -> usize {
        self.0.len()
    }
}

impl<'a, T> From<&'a [T]> for View<'a, T> {
    fn from(slice: &'a [T]) -> Self {
        Self(slice)
    }
}

impl<'a, T> From<&'a Vec<T>> for View<'a, T> {
    fn from(vec: &'a Vec<T>) -> Self {
        Self(vec)
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for View<'a, T> {
    fn from(array: &'a [T; N]) -> Self {
        Self(array)
    }
}

impl<'a, T> From<&'a mut [T]> for ViewMut<'a, T> {
    fn from(slice: &'a mut [T]) -> Self {
        Self(slice)
    }
}

impl<'a, T> From<&'a mut Vec<T>> for ViewMut<'a, T> {
    fn from(vec: &'a mut Vec<T>) -> Self {
        Self(vec)
    }
}

impl<'a, T, const N: usize> From<&'a mut [T; N]> for ViewMut<'a, T> {
    fn from(array: &'a mut [T; N]) -> Self {
        Self(array)
    }
}
