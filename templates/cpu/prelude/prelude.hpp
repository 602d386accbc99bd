// What every generated CPU kernel includes. Light on purpose: no header of the C++ library and no intrinsics, since a
// training step compiles many small translation units.
#pragma once

#include "launch.hpp"
#include "vector.hpp"
#include "scalar.hpp"
#include "philox.hpp"

using namespace soracc;

// Reductions of vector loops in which NaN wins; starting every lane from the value so far changes no maximum.
#pragma omp declare reduction(largest : float, double, int32_t, uint32_t : omp_out = max(omp_out, omp_in)) \
    initializer(omp_priv = omp_orig)
#pragma omp declare reduction(smallest : float, double, int32_t, uint32_t : omp_out = min(omp_out, omp_in)) \
    initializer(omp_priv = omp_orig)
