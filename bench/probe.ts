import { createCudaDevice } from "../runtime/devices/cuda/device.ts";
import { cudaSources } from "../compiler/emit/cuda-sources.ts";
import { operatorsFor, prepareOperator } from "./operators.ts";
export async function main(words: readonly string[], root: string): Promise<number> {
  const [pattern = ".", precision = "bf16", runs = "1", tokens = "16384", width = "1152"] = words;
  const device = await createCudaDevice({ headers: cudaSources(root).prelude });
  const target = { name: "cuda", arch: device.arch } as const;
  const sizes = { tokens: Number(tokens), width: Number(width), heads: Number(width) / 72 };
  for (const op of operatorsFor(sizes).filter(({ name }) => new RegExp(pattern).test(name))) {
    const p = await prepareOperator(op, { device, target, precision: precision as "bf16", sizes });
    const t: number[] = [];
    for (let i = 0; i < Number(runs); i++) t.push(await p.run());
    t.sort((a, b) => a - b);
    const m = t[t.length >> 1]!;
    console.log(`${op.name} ${precision} min ${t[0]!.toFixed(4)} median ${m.toFixed(4)} ms, ${(op.flops / m / 1e9).toFixed(1)} TFLOP/s`);
    await p.close();
  }
  await device.close();
  return 0;
}
