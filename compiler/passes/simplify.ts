/**
 * Simplification: Graph -> Graph, once, after differentiation. The rules are few, and each pays in the graphs that
 * transformers and their gradients make: fewer kernels, or less memory. Everything scalar is left to fusion.
 */
import type { Program } from "../graph/node.ts";
import { ARITHMETIC_RULES } from "./arithmetic-rules.ts";
import { LAYOUT_RULES } from "./layout-rules.ts";
import { rewriteProgram, type Rule } from "./rewrite.ts";

export const RULES: readonly Rule[] = [...LAYOUT_RULES, ...ARITHMETIC_RULES];

/** The program, with every rule applied wherever it matches. */
export const simplify = (program: Program): Program => rewriteProgram(program, RULES);
