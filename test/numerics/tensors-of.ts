import type { Port } from "../../contract/plan.ts";
import { evaluateSize } from "../../contract/size.ts";

/** How many elements a port has under given symbols. */
export const elementsOf = (port: Port, symbols: Readonly<Record<string, number>>): number =>
  port.axes.reduce((total, axis) => total * evaluateSize(axis.size, new Map(Object.entries(symbols))), 1);
