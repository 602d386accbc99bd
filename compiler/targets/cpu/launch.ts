/** How a CPU kernel gets its arguments: declarations that fetch them from the launch (`prelude/launch.hpp`). */
import type { Frame } from "../code/context.ts";
import { ELEMENT_TYPES, REGISTER_TYPES } from "../code/print.ts";

/** What the partial `arguments` prints: sizes, operands and scalars (`s0 s1 …`). */
export function argumentLines({ kernel, sizes, operands }: Frame): string[] {
  return [
    ...kernel.symbols.map((symbol, i) => `const int64_t ${sizes.get(symbol) ?? ""} = launch->sizes[${i}];`),
    ...kernel.operands.map((operand, i) => {
      const type = `${operand.role === "read" ? "const " : ""}${ELEMENT_TYPES[operand.dtype]}*`;
      return `${type} const ${operands[i] ?? ""} = static_cast<${type}>(launch->buffers[${i}]);`;
    }),
    ...kernel.scalars.map((type, i) => {
      const cpp = REGISTER_TYPES[type];
      return `const ${cpp} s${i} = static_cast<${cpp}>(launch->scalars[${i}]);`;
    }),
  ];
}
