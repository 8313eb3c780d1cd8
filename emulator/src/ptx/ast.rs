//! The syntax tree of a PTX module: what the text says, with nothing resolved yet.
//!
//! The executor resolves opcodes, registers and symbols from it; the parser only
//! promises that the shape is right.

/// A whole PTX translation unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// `.version major.minor`.
    pub version: (u32, u32),
    /// `.target sm_NN`.
    pub target: Target,
    /// `.address_size`, 32 or 64 (64 when the directive is missing).
    pub address_size: u32,
    /// Module-scope `.global`, `.const` and `.shared` variables, in order.
    pub variables: Vec<Variable>,
    /// Kernels and device functions, declarations included, in order.
    pub functions: Vec<Function>,
}

/// The `.target` directive: `sm_90a` is `sm: 90, suffix: Some('a')`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The compute capability times ten.
    pub sm: u32,
    /// `a` for architecture-specific, `f` for family-specific targets.
    pub suffix: Option<char>,
}

/// Whether a function is launched from the host or called from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// `.entry`: a kernel.
    Entry,
    /// `.func`: a device function.
    Device,
}

/// Who sees a symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linkage {
    /// No linking directive: this module only.
    #[default]
    Private,
    /// `.visible`.
    Visible,
    /// `.extern`: defined elsewhere, or, for `.shared`, sized at launch.
    Extern,
    /// `.weak`.
    Weak,
    /// `.common`.
    Common,
}

/// A kernel or a device function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Kernel or device function.
    pub kind: FunctionKind,
    /// Who sees it.
    pub linkage: Linkage,
    /// Its name, mangled if the source was C++.
    pub name: String,
    /// Parameters in order (`space` is `Param`, or `Reg` for a device function).
    pub params: Vec<Variable>,
    /// Return values of a device function, in order.
    pub returns: Vec<Variable>,
    /// Performance and launch directives.
    pub directives: LaunchDirectives,
    /// The body; `None` for a declaration.
    pub body: Option<Vec<Statement>>,
    /// Line of the name, from 1.
    pub line: u32,
}

/// Launch bounds a kernel states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchDirectives {
    /// `.maxntid x, y, z`: at most `x * y * z` threads in a block.
    pub maxntid: Option<[u32; 3]>,
    /// `.reqntid x, y, z`: exactly this block.
    pub reqntid: Option<[u32; 3]>,
    /// `.minnctapersm n`: at least this many blocks on a multiprocessor.
    pub minnctapersm: Option<u32>,
    /// `.maxnreg n`: at most this many registers a thread.
    pub maxnreg: Option<u32>,
    /// `.reqnctapercluster x, y, z`: exactly this cluster.
    pub reqnctapercluster: Option<[u32; 3]>,
    /// `.maxclusterrank n`: at most this many blocks in a cluster.
    pub maxclusterrank: Option<u32>,
    /// `.explicitcluster`: the launch must name a cluster.
    pub explicitcluster: bool,
}

/// State spaces in which a variable can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// `.reg`.
    Reg,
    /// `.param`.
    Param,
    /// `.shared`.
    Shared,
    /// `.global`.
    Global,
    /// `.const`.
    Const,
    /// `.local`.
    Local,
}

/// Fundamental types of variables and instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalarType {
    /// `.pred`.
    Pred,
    /// `.b8`.
    B8,
    /// `.b16`.
    B16,
    /// `.b32`.
    B32,
    /// `.b64`.
    B64,
    /// `.b128`.
    B128,
    /// `.u8`.
    U8,
    /// `.u16`.
    U16,
    /// `.u32`.
    U32,
    /// `.u64`.
    U64,
    /// `.s8`.
    S8,
    /// `.s16`.
    S16,
    /// `.s32`.
    S32,
    /// `.s64`.
    S64,
    /// `.f16`.
    F16,
    /// `.f16x2`.
    F16x2,
    /// `.bf16`.
    Bf16,
    /// `.bf16x2`.
    Bf16x2,
    /// `.tf32`.
    Tf32,
    /// `.f32`.
    F32,
    /// `.f64`.
    F64,
}

impl ScalarType {
    /// The type a modifier names (without its dot), if it names one.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Pred,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "b128" => Self::B128,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => return None,
        })
    }

    /// Bytes one value takes in memory; a predicate, which has no place there, counts as one.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Pred | Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 => 2,
            Self::B32 | Self::U32 | Self::S32 | Self::F16x2 | Self::Bf16x2 | Self::Tf32 | Self::F32 => 4,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
            Self::B128 => 16,
        }
    }
}

/// A variable, register range or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Where it lives.
    pub space: Space,
    /// Type of one element.
    pub ty: ScalarType,
    /// Elements of a `.v2` or `.v4` vector; 1 for a scalar.
    pub vector: u8,
    /// `.align`, in bytes, if stated.
    pub align: Option<u32>,
    /// Its name; for a register range the prefix (`%r` of `%r<12>`).
    pub name: String,
    /// `n` of a register range `%r<n>`, which declares `%r0 … %r(n-1)`.
    pub count: Option<u32>,
    /// Array dimensions; `Some(vec![])` is `name[]`, whose size comes from its
    /// initialiser or, for `.extern .shared`, from the launch.
    pub array: Option<Vec<u64>>,
    /// Who sees it.
    pub linkage: Linkage,
    /// Initial values, flattened in row-major order; empty if none are stated.
    pub init: Vec<Initial>,
    /// Line of the declaration, from 1.
    pub line: u32,
}

/// One initial value of a variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Initial {
    /// An integer; negative ones as stated.
    Integer(i128),
    /// `0f` literal: the bits of an f32.
    Float32(u32),
    /// `0d` or decimal literal: the bits of an f64.
    Float64(u64),
    /// The address of a symbol plus an offset; `generic(sym)` sets `generic`.
    Symbol {
        /// The variable or function named.
        name: String,
        /// Bytes added to its address.
        offset: i64,
        /// Whether a generic address is asked for.
        generic: bool,
    },
}

/// One statement of a function body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// A declaration inside the function.
    Variable(Variable),
    /// A label with its line.
    Label(String, u32),
    /// An instruction.
    Instruction(Instruction),
    /// A nested scope; its declarations end with it.
    Block(Vec<Statement>),
    /// `name: .branchtargets l0, l1, …;` for `brx.idx`.
    BranchTargets {
        /// The table's label.
        name: String,
        /// Labels in index order.
        targets: Vec<String>,
        /// Line of the directive.
        line: u32,
    },
    /// `name: .callprototype …;`; the signature an indirect call states.
    CallPrototype {
        /// The prototype's label.
        name: String,
        /// Return values.
        returns: Vec<Variable>,
        /// Parameters.
        params: Vec<Variable>,
        /// Line of the directive.
        line: u32,
    },
}

/// The predicate before an instruction: `@%p` or `@!%p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The predicate register.
    pub register: String,
    /// True for `@!`.
    pub negated: bool,
}

/// An instruction as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// The guard, if any.
    pub guard: Option<Guard>,
    /// What stands before the first dot, `ld` of `ld.global.v4.f32`.
    pub opcode: String,
    /// What stands after each dot, verbatim: `global`, `v4`, `f32`, `L2::128B`.
    pub modifiers: Vec<String>,
    /// Operands, destinations first. `call` has `(ret…)` and `(arg…)` as [`Operand::List`].
    pub operands: Vec<Operand>,
    /// Line of the opcode, from 1.
    pub line: u32,
    /// The source text of the statement, for reports.
    pub text: String,
}

/// What an address starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressBase {
    /// `[%rd1]`.
    Register(String),
    /// `[sym]`.
    Symbol(String),
    /// `[16]`: the offset alone.
    Absolute,
}

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register: any `%name` that is no special register, and `%name.x` of a vector.
    Register(String),
    /// `!%p`.
    Negated(String),
    /// An integer literal, constant expressions folded.
    Integer(i128),
    /// `0f3F800000`: the bits of an f32.
    Float32(u32),
    /// `0d3FF0000000000000` or a decimal such as `1.5`: the bits of an f64.
    Float64(u64),
    /// `[base+offset]`.
    Address {
        /// What it starts from.
        base: AddressBase,
        /// Bytes added.
        offset: i64,
    },
    /// `[tensorMap, {%r1, %r2}]`: a tensor address with its coordinates.
    TensorAddress {
        /// The tensor map's address.
        base: AddressBase,
        /// Bytes added to it.
        offset: i64,
        /// Coordinates.
        coordinates: Vec<Operand>,
    },
    /// `{%f1, %f2}`.
    Vector(Vec<Operand>),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
    /// A label, variable or function; with an offset if `sym+4` was written.
    Symbol {
        /// Its name.
        name: String,
        /// Bytes added to its address.
        offset: i64,
    },
    /// `%p|%q`: two destinations.
    Pair(Box<Operand>, Box<Operand>),
    /// A special register with its component: `%tid.x`, `%laneid`.
    Special(String),
    /// `_`: the result is dropped.
    Sink,
}
