/** A plan with its kernels and constants on a device, and the programs of it that are bound to sizes. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { bytesOf, type DType } from "../../../contract/dtype.ts";
import type { Plan } from "../../../contract/plan.ts";
import type { DeviceBuffer, LoadedPlan, LoadProgress } from "../device.ts";
import { bindProgram, type DeviceContext, type DroppableProgram } from "./bound-program.ts";
import { allocateBlock, deviceBuffer, type OwnedBuffer } from "./memory.ts";

export interface LoadRequest {
  readonly context: DeviceContext;
  readonly plan: Plan;
  /** Bytes that bound programs may hold before the least recently used are dropped. */
  readonly boundBytes: number;
  readonly progress: (progress: LoadProgress) => void;
}

export async function loadPlan({ context, plan, boundBytes, progress }: LoadRequest): Promise<LoadedPlan> {
  const { memory, poison, target, name: device } = context.engine;
  if (plan.target !== target) {
    throw new Diagnostic({
      kind: "device",
      message: `this plan is for ${plan.target}, and the device ${device} runs plans for ${target}`,
      fix: `compile the model with --target ${target}`,
    });
  }
  const started = performance.now();
  const kernels = await context.engine.load(plan, progress);
  const constants = plan.constants.map(({ data }, index) => {
    const bytes = new Uint8Array(Buffer.from(data, "base64"));
    const block = allocateBlock(memory, `constant ${index}`, bytes.length, poison);
    memory.write(block.address, block.bytes, "u8", bytes);
    return block;
  });
  const facts = {
    kernels: plan.kernels.length,
    compiled: kernels.compiled,
    seconds: (performance.now() - started) / 1000,
  };

  const bound = new Map<string, DroppableProgram>(); // the least recently used comes first
  const identities = new WeakMap<DeviceBuffer, number>();
  let identified = 0;
  let closed = false;

  function identityOf(buffer: DeviceBuffer): number {
    const known = identities.get(buffer) ?? ++identified;
    identities.set(buffer, known);
    return known;
  }

  function makeRoom(keep: string): void {
    let held = [...bound.values()].reduce((sum, one) => sum + one.ownBytes, 0);
    for (const [key, one] of bound) {
      if (held <= boundBytes) return;
      if (key === keep || one.busy) continue;
      one.drop();
      bound.delete(key);
      held -= one.ownBytes;
    }
  }

  return Object.freeze<LoadedPlan>({
    plan,
    facts,
    createState(name: string, dtype: DType, elements: number) {
      if (closed) throw new Error("the plan was closed");
      const block = allocateBlock(memory, name, elements * bytesOf(dtype), poison);
      const owned: OwnedBuffer = { block, users: 0, freed: false };
      const buffer = deviceBuffer(memory, owned, dtype, elements);
      context.owned.set(buffer, owned);
      return buffer;
    },
    bind(name, symbols, state) {
      if (closed) throw new Error("the plan was closed");
      const states = (plan.programs[name]?.state ?? []).map((port) => {
        const buffer = state.get(port.name);
        return buffer === undefined ? 0 : identityOf(buffer);
      });
      const key = JSON.stringify([name, Object.entries(symbols).sort(), states]);
      const known = bound.get(key);
      const program = known ?? bindProgram({ context, plan, name, symbols, state, kernels, constants });
      bound.delete(key);
      bound.set(key, program);
      makeRoom(key);
      return program;
    },
    async close() {
      if (closed) return;
      closed = true;
      for (const one of bound.values()) one.cancel();
      await context.inTurn(async () => undefined);
      await new Promise((resolve) => setImmediate(resolve)); // the runs have told their callers
      for (const one of bound.values()) one.drop();
      for (const block of constants) block.release();
      kernels.close();
    },
  });
}
