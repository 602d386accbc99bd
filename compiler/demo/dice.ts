/** Random choices that are the same for the same seed on every machine, a stream of its own for every purpose. */
import { philoxUniform } from "../../contract/philox.ts";

/** Keeps these draws apart from those of models and data order: "demo" in ASCII. */
const DEMO_PATH = 0x64656d6f;

const PURPOSES = ["held out", "subjects", "clips", "captions"] as const;
export type Purpose = (typeof PURPOSES)[number];

export interface Dice {
  /** A number between two others. */
  readonly between: (low: number, high: number) => number;
  readonly pick: <Item>(items: readonly Item[]) => Item;
  /** The same items in an order by chance (Fisher and Yates). */
  readonly shuffle: <Item>(items: readonly Item[]) => Item[];
}

export function dice(seed: number, purpose: Purpose): Dice {
  let drawn = 0;
  const uniform = (): number => philoxUniform(seed, PURPOSES.indexOf(purpose), DEMO_PATH, drawn++);
  const below = (count: number): number => Math.floor(uniform() * count);
  return Object.freeze({
    between: (low: number, high: number) => low + (high - low) * uniform(),
    pick: <Item>(items: readonly Item[]) => items[below(items.length)]!,
    shuffle: <Item>(items: readonly Item[]) => {
      const order = [...items];
      for (let last = order.length - 1; last > 0; last--) {
        const chosen = below(last + 1);
        const swapped = order[last]!;
        order[last] = order[chosen]!;
        order[chosen] = swapped;
      }
      return order;
    },
  });
}
