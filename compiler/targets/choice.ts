/** What kernels are written for. */
import type { Arch } from "../../contract/plan.ts";

export type Target = { readonly name: "cpu" } | { readonly name: "cuda"; readonly arch: Arch };

export const CPU: Target = { name: "cpu" };
