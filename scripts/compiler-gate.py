#!/usr/bin/env python3
"""The compiler's word on the kernels, without a GPU.

1. kernels/*.cu compiled by the pinned nvcc give, byte for byte, the committed kernels/ptx/*.ptx.
2. The committed PTX assembles with ptxas 13.0 for every supported architecture, and with ptxas 12.0,
   which knows nothing newer than the PTX 8.0 that the files claim.
3. No kernel spills a register, and no register hint (setmaxnreg) is ignored.
4. The tensor-core kernels consist of what they should on every target: HMMA fed by LDSM, transposed LDSM where they
   have an output, LDGSTS for the copies, and no local memory.

Prints a table of registers, shared memory and spills for each kernel and target; exits with 1 if any
of this fails. Python's standard library only.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PTX = ROOT / "kernels" / "ptx"

# Turing, Ampere (server, desktop), Ada, Hopper, Blackwell (server, desktop).
SUPPORTED = (75, 80, 86, 89, 90, 100, 120)
NEWEST = {"ptxas": 120, "ptxas-12.0": 90}

# What must be in the machine code of a tensor-core kernel, and what must not.
TENSOR_CORES = "stream_mma"
WANTED = (r"HMMA\.16816\.F32", r"LDSM\.16\.M88", r"LDGSTS")
WANTED_WITH_OUTPUT = (r"LDSM\.16\.MT88",)
UNWANTED = (r"\b(LDL|STL)\b",)


class Usage(NamedTuple):
    """What `ptxas -v` says of one function."""

    name: str
    registers: int
    shared: int
    stack: int
    spill: int


class Assembly(NamedTuple):
    """One PTX file through one assembler for one target."""

    ptx: Path
    assembler: str
    target: str
    usages: list[Usage]
    problems: list[str]
    products: dict[str, int]  # tensor-core instructions of each kernel


def main() -> int:
    problems = compare_with_committed()
    files = sorted(PTX.glob("*.ptx"))
    kernels = sorted((ROOT / "kernels").glob("*.cu"))
    if not files and not kernels:
        print("compiler gate: no kernels yet")
        return 1 if problems else 0
    tools = {name: cuda_tool(name) for name in (*NEWEST, "nvdisasm")}
    jobs = [(ptx, name, target) for ptx in files for name in NEWEST for target in targets(ptx, name)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assemblies = list(pool.map(lambda job: assemble(*job, tools[job[1]], tools["nvdisasm"]), jobs))
    print_table(assemblies)
    problems += [problem for assembly in assemblies for problem in assembly.problems]
    for problem in problems:
        print(f"FAIL {problem}")
    checked = sum(len(assembly.products) for assembly in assemblies)
    print(f"compiler gate: {checked} tensor-core kernels disassembled")
    verdict = f"{len(problems)} problems" if problems else "ok"
    print(f"compiler gate: {len(files)} PTX files, {len(assemblies)} assemblies: {verdict}")
    return 1 if problems else 0


def cuda_tool(name: str) -> str:
    return subprocess.check_output([ROOT / "scripts" / "cuda-tool.sh", name], text=True).strip()


def compare_with_committed() -> list[str]:
    """The build script does the comparison: it is the one place that knows how PTX is made."""
    environment = os.environ | {"INBATCH_PTX": "check", "INBATCH_NVCC": cuda_tool("nvcc")}
    command = ["cargo", "check", "--quiet", "--package", "inbatch", "--lib"]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE, check=False)
    if done.returncode == 0:
        return []
    said = re.findall(r"cargo::error=(.*)", done.stderr) or [done.stderr]
    return ["committed PTX: " + "\n    ".join(said)]


def targets(ptx: Path, assembler: str) -> list[str]:
    """The architectures to assemble for: `.target sm_80` runs on 8.0 and later, `sm_90a` on 9.0 alone."""
    match = re.search(r"^\.target sm_(\d+)([af]?)", ptx.read_text(), re.MULTILINE)
    if match is None:
        return ["sm_75"]  # Not PTX: let the assembler say so.
    number, suffix = int(match[1]), match[2]
    if suffix:
        return [f"sm_{number}{suffix}"] if number <= NEWEST[assembler] else []
    return [f"sm_{arch}" for arch in SUPPORTED if number <= arch <= NEWEST[assembler]]


def assemble(ptx: Path, assembler: str, target: str, tool: str, disassembler: str) -> Assembly:
    code = {}
    with tempfile.TemporaryDirectory() as scratch:
        cubin = Path(scratch) / "out.cubin"
        command = [tool, "-v", "-arch", target, ptx, "-o", cubin]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode == 0 and assembler == "ptxas" and ptx.stem.startswith(TENSOR_CORES):
            code = disassemble(cubin, disassembler)
    said = done.stdout + done.stderr
    usages = parse(said)
    where = f"{ptx.name}, {assembler} for {target}"
    problems = []
    if done.returncode != 0:
        problems.append(f"{where}: rejected\n    " + said.strip().replace("\n", "\n    "))
    elif not usages:
        problems.append(f"{where}: no kernel in it")
    problems += [f"{where}: {u.name} spills {u.spill} bytes" for u in usages if u.spill]
    problems += [f"{where}: {line.strip()}" for line in said.splitlines() if "setmaxnreg ignored" in line]
    problems += [f"{where}: {why}" for name, text in code.items() for why in instruction_problems(name, text)]
    products = {name: len(re.findall(WANTED[0], text)) for name, text in code.items()}
    return Assembly(ptx, assembler, target, usages, problems, products)


def disassemble(cubin: Path, tool: str) -> dict[str, str]:
    """The machine code of each kernel."""
    text = subprocess.check_output([tool, "-c", cubin], text=True)
    sections = re.split(r"^\s*\.section\s+\.text\.(\w+),.*$", text, flags=re.MULTILINE)
    return dict(zip(sections[1::2], sections[2::2]))


def instruction_problems(name: str, code: str) -> list[str]:
    wanted = WANTED if "_loss_" in name else WANTED + WANTED_WITH_OUTPUT
    missing = [f"{name} has no {form}" for form in wanted if not re.search(form, code)]
    return missing + [f"{name} has {form}" for form in UNWANTED if re.search(form, code)]


def parse(said: str) -> list[Usage]:
    """Reads `ptxas -v`: a block for each function, its registers (kernels only) on a later line."""
    usages = []
    for block in re.split(r"Function properties for ", said)[1:]:
        numbers = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", block)
        if numbers is None:
            continue
        stack, stores, loads = map(int, numbers.groups())
        registers = re.search(r"Used (\d+) registers", block)
        shared = re.search(r"(\d+) bytes smem", block)
        count = int(registers[1]) if registers else 0
        usages.append(Usage(block.split()[0], count, int(shared[1]) if shared else 0, stack, stores + loads))
    return usages


def print_table(assemblies: list[Assembly]) -> None:
    """One row a kernel and assembler, one column a target: `registers / shared bytes`, spills marked."""
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for assembly in assemblies:
        for usage in assembly.usages:
            cell = f"{usage.registers}/{usage.shared}"
            cell += f" stack {usage.stack}" if usage.stack else ""
            cell += f" SPILL {usage.spill}" if usage.spill else ""
            rows.setdefault((assembly.ptx.stem, usage.name, assembly.assembler), {})[assembly.target] = cell
    columns = sorted({assembly.target for assembly in assemblies}, key=lambda target: int(re.sub(r"\D", "", target)))
    header = ["kernel (registers/static shared bytes)", "assembler", *columns]
    table = [header] + [
        [f"{stem}: {name}", assembler, *(cells.get(column, "") for column in columns)]
        for (stem, name, assembler), cells in sorted(rows.items())
    ]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
