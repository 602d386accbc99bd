// What every generated CPU kernel includes. Light on purpose: no header of the C++ library and no intrinsics, since a
// training step compiles many small translation units.
#pragma once

#include "launch.hpp"
#include "vector.hpp"
#include "scalar.hpp"
#include "philox.hpp"

using namespace soracc;
