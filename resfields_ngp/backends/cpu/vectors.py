"""Short vectors of float32 in numba kernels: one SIMD register where a loop over lanes would stand.

Loops of eight turns are unrolled before LLVM's vectoriser sees them, and arrays that might overlap
keep the unrolled code scalar. A vector is a value of LLVM's own vector type: it is loaded, computed
with (`+`, `-`, `*`, numbers on the left of `*`) and stored whole. Rounding is IEEE's, whatever the
machine: `fused` is a fused multiply-add because it says so, nothing else is.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.core.errors import RequireLiteralValue
from numba.extending import models, overload, register_model
from numba.np.arrayobj import make_array

# A kernel calls an intrinsic without the typing context, which type checkers cannot know.
intrinsic: Any = extending.intrinsic


class Vector(types.Type):
    """numba's type of `width` float32 values."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Vector({width})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, _llvm_type(fe_type.width))


def _llvm_type(width: int) -> ir.VectorType:
    return ir.VectorType(ir.FloatType(), width)


def _literal(value: Any) -> int:
    if not isinstance(value, types.IntegerLiteral):
        raise RequireLiteralValue("a vector's width is a constant")
    return value.literal_value


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, width: int) -> Any:
    """Returns the address of `width` floats in a contiguous array, at a flat offset."""
    array = make_array(signature.args[0])(context, builder, arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), _llvm_type(width).as_pointer())


@intrinsic
def load(typing: Any, array: Any, offset: Any, width: Any) -> Any:
    """Returns `width` floats of a contiguous array from a flat offset on, as a vector."""
    n = _literal(width)

    def lower(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature, arguments, n), align=4)

    return Vector(n)(array, types.int64, width), lower


@intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Writes a vector to a contiguous array at a flat offset."""

    def lower(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature, arguments, vector.width)
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), lower


@intrinsic
def zeros(typing: Any, width: Any) -> Any:
    """Returns a vector of zeros."""
    n = _literal(width)
    return Vector(n)(width), lambda *_: ir.Constant(_llvm_type(n), [0.0] * n)


@intrinsic
def fused(typing: Any, factor: Any, vector: Any, addend: Any) -> Any:
    """Returns ``factor * vector + addend``, rounded once; `factor` a number or a vector."""

    def lower(context, builder, signature, arguments):
        left = _broadcast(builder, arguments[0], factor, vector.width)
        kind = _llvm_type(vector.width)
        signature = ir.FunctionType(kind, [kind] * 3)
        name = f"llvm.fma.v{vector.width}f32"
        function = cgutils.get_or_insert_function(builder.module, signature, name)
        return builder.call(function, [left, arguments[1], arguments[2]])

    kind = factor if isinstance(factor, Vector) else types.float32
    return vector(kind, vector, vector), lower


@intrinsic
def tile(typing: Any, vector: Any, repeats: Any) -> Any:
    """Returns a vector `repeats` times side by side."""
    n, times = vector.width, _literal(repeats)
    lanes = [lane % n for lane in range(n * times)]
    return Vector(n * times)(vector, repeats), lambda c, builder, s, a: _shuffle(
        builder, a[0], lanes
    )


@intrinsic
def fold(typing: Any, vector: Any, width: Any) -> Any:
    """Returns the sum of a vector's parts of `width`, from the first to the last."""
    n = _literal(width)

    def lower(context, builder, signature, arguments):
        total = _shuffle(builder, arguments[0], list(range(n)))
        for begin in range(n, vector.width, n):
            part = _shuffle(builder, arguments[0], list(range(begin, begin + n)))
            total = builder.fadd(total, part)
        return total

    return Vector(n)(vector, width), lower


def _shuffle(builder: Any, vector: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _broadcast(builder: Any, value: Any, kind: Any, width: int) -> Any:
    if isinstance(kind, Vector):
        return value
    single = builder.insert_element(
        ir.Constant(_llvm_type(width), ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    return _shuffle(builder, single, [0] * width)


def _binary(name: str) -> Any:
    """Returns the intrinsic of an LLVM instruction on two vectors, or a number and a vector."""

    @intrinsic
    def operation(typing: Any, left: Any, right: Any) -> Any:
        def lower(context, builder, signature, arguments):
            first = _broadcast(builder, arguments[0], left, right.width)
            return getattr(builder, name)(first, arguments[1])

        return right(left if isinstance(left, Vector) else types.float32, right), lower

    return operation


_add, _subtract, _multiply = _binary("fadd"), _binary("fsub"), _binary("fmul")


@overload(operator.add)
def _overload_add(left, right):
    if isinstance(left, Vector) and isinstance(right, Vector):
        return lambda left, right: _add(left, right)
    return None


@overload(operator.sub)
def _overload_subtract(left, right):
    if isinstance(left, Vector) and isinstance(right, Vector):
        return lambda left, right: _subtract(left, right)
    return None


@overload(operator.mul)
def _overload_multiply(left, right):
    if isinstance(right, Vector) and isinstance(left, Vector | types.Float):
        return lambda left, right: _multiply(left, right)
    return None
