//! Variables: their sizes, and where module variables lie.
use super::builder::Binding;
use crate::exec::LoadError;
use crate::memory::DeviceMemory;
use crate::ptx::ast::{Initial, Linkage, Module, ScalarType, Space, Variable};
use std::collections::HashMap;

/// Variables of the module.
#[derive(Default)]
pub(crate) struct Globals {
    pub(crate) names: HashMap<String, Binding>,
    /// Address and bytes of `.global` and `.const` variables.
    pub(crate) placed: HashMap<String, (u64, u64)>,
    /// Shared variables of the module: each kernel places those that it uses.
    pub(crate) shared: Vec<Variable>,
}

/// A load error at a line that holds no instruction.
pub(crate) fn refuse_variable(variable: &Variable, message: impl Into<String>) -> LoadError {
    LoadError { line: variable.line, text: variable.name.clone(), message: message.into() }
}

/// More than this for one variable is a mistake, or an attack on the loader's memory.
const MOST_BYTES: u64 = 1 << 32;

/// Bytes of a variable; 0 for an `extern` array without size.
pub(crate) fn bytes(variable: &Variable) -> Result<u64, LoadError> {
    let element = u64::from(variable.ty.bytes()) * u64::from(variable.vector.max(1));
    let count = match &variable.array {
        None => Some(1),
        Some(dims) if dims.is_empty() => Some(variable.init.len() as u64),
        Some(dims) => dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim)),
    };
    count
        .and_then(|count| count.checked_mul(element))
        .filter(|bytes| *bytes < MOST_BYTES)
        .ok_or_else(|| refuse_variable(variable, "the variable is too large; 4 GiB is the limit"))
}

/// Alignment of a variable: stated, or that of its type.
pub(crate) fn align(variable: &Variable) -> u32 {
    variable.align.unwrap_or(variable.ty.bytes() * u32::from(variable.vector.max(1))).max(1)
}

/// Places the variables of a module, and fills those that have initial values.
pub(crate) fn place(module: &Module, memory: &DeviceMemory) -> Result<Globals, LoadError> {
    let mut globals = Globals::default();
    for variable in &module.variables {
        match variable.space {
            Space::Global | Space::Const => place_global(variable, memory, &mut globals)?,
            Space::Shared => globals.shared.push(variable.clone()),
            _ => {
                return Err(refuse_variable(
                    variable,
                    "a module variable must be .global, .const or .shared",
                ));
            }
        }
    }
    for variable in &module.variables {
        fill(variable, memory, &globals)?;
    }
    Ok(globals)
}

fn place_global(variable: &Variable, memory: &DeviceMemory, globals: &mut Globals) -> Result<(), LoadError> {
    if variable.linkage == Linkage::Extern {
        return Err(refuse_variable(variable, "an extern variable needs linking, which is not supported"));
    }
    let bytes = bytes(variable)?;
    let address = memory
        .alloc_named(bytes.max(1), Some(variable.name.clone()))
        .map_err(|error| refuse_variable(variable, error.to_string()))?;
    globals.placed.insert(variable.name.clone(), (address, bytes));
    bind(variable, globals, Binding::Global { address })
}

fn bind(variable: &Variable, globals: &mut Globals, binding: Binding) -> Result<(), LoadError> {
    match globals.names.insert(variable.name.clone(), binding) {
        None => Ok(()),
        Some(_) => Err(refuse_variable(variable, format!("{} is declared twice", variable.name))),
    }
}

/// Writes the initial values. Without any, a variable starts as zeros, as PTX says.
fn fill(variable: &Variable, memory: &DeviceMemory, globals: &Globals) -> Result<(), LoadError> {
    let Some((address, bytes)) = globals.placed.get(&variable.name) else { return Ok(()) };
    let mut image = vec![0u8; *bytes as usize];
    let width = variable.ty.bytes() as usize;
    if variable.init.len() * width > image.len() {
        return Err(refuse_variable(variable, "there are more initial values than elements"));
    }
    for (initial, place) in variable.init.iter().zip(image.chunks_exact_mut(width)) {
        let value = initial_bits(variable, initial, globals)?.to_le_bytes();
        let count = place.len().min(value.len());
        place[..count].copy_from_slice(&value[..count]);
    }
    memory.copy_from_host(*address, &image).map_err(|error| refuse_variable(variable, error.to_string()))
}

fn initial_bits(variable: &Variable, initial: &Initial, globals: &Globals) -> Result<u128, LoadError> {
    Ok(match (initial, variable.ty) {
        (Initial::Integer(value), ScalarType::F32) => u128::from((*value as f32).to_bits()),
        (Initial::Integer(value), ScalarType::F64) => u128::from((*value as f64).to_bits()),
        (Initial::Integer(value), _) => *value as u128,
        (Initial::Float32(bits), ScalarType::F64) => u128::from(f64::from(f32::from_bits(*bits)).to_bits()),
        (Initial::Float32(bits), _) => u128::from(*bits),
        (Initial::Float64(bits), ScalarType::F32) => u128::from((f64::from_bits(*bits) as f32).to_bits()),
        (Initial::Float64(bits), _) => u128::from(*bits),
        (Initial::Symbol { name, offset, .. }, _) => match globals.names.get(name) {
            Some(Binding::Global { address }) => u128::from(address.wrapping_add_signed(*offset)),
            _ => {
                return Err(refuse_variable(variable, format!("{name} is no variable with a fixed address")));
            }
        },
    })
}
