/** A Device over an engine: runs take turns and share one arena of temporaries. */
import type { Device, LoadedPlan } from "../device.ts";
import type { Arena } from "./bound-memory.ts";
import type { DeviceContext } from "./bound-program.ts";
import type { Engine } from "./engine.ts";
import { loadPlan } from "./loaded-plan.ts";
import { allocateBlock, type Block } from "./memory.ts";

/** `boundBytes`: what bound programs may hold in inputs, outputs and residents before the oldest are dropped. */
export function deviceOn(engine: Engine, boundBytes: number): Device {
  const { context, end } = createContext(engine);
  const loaded = new Set<LoadedPlan>();
  let closed = false;
  return Object.freeze<Device>({
    name: engine.name,
    description: engine.description,
    async load(plan, progress = () => undefined) {
      if (closed) throw new Error("the device was closed");
      const one = await loadPlan({ context, plan, boundBytes, progress });
      loaded.add(one);
      return one;
    },
    async close() {
      if (closed) return;
      closed = true;
      for (const one of loaded) await one.close();
      await context.inTurn(end);
    },
  });
}

function createContext(engine: Engine): { readonly context: DeviceContext; readonly end: () => Promise<void> } {
  let block: Block | undefined;
  const arena: Arena = {
    reserve(bytes) {
      if (block === undefined || block.bytes < bytes) {
        block?.release();
        block = undefined;
        block = allocateBlock(engine.memory, "temporaries", bytes, engine.poison);
      }
      return block;
    },
    get bytes() {
      return block?.bytes ?? 0;
    },
  };
  let last: Promise<unknown> = Promise.resolve();
  const context: DeviceContext = {
    engine,
    arena,
    owned: new WeakMap(),
    inTurn(work) {
      const mine = last.then(work, work);
      last = mine.catch(() => undefined);
      return mine;
    },
  };
  const end = async (): Promise<void> => {
    block?.release();
    block = undefined;
    await engine.close();
  };
  return { context, end };
}
