/**
 * Plans of models that were compiled before. A plan is kept under everything that it follows from: the model's text and
 * what it imports, the choices of the command line, and this state of the compiler.
 */
import { gunzipSync } from "node:zlib";
import type { Packed } from "../../../contract/payload.ts";
import { parsePlan, printPlan } from "../../../contract/plan-schema.ts";
import type { Plan } from "../../../contract/plan.ts";
import { hashOf, keptText, openCacheFolder } from "../../../runtime/devices/cpu/cache-folder.ts";
import { pack } from "../../emit/pack.ts";
import type { ModelText } from "../../read-model.ts";
import type { BuildOptions } from "./build.ts";
import type { Estimate } from "./estimate.ts";

export interface Draft {
  readonly plan: Plan;
  readonly estimate: Estimate | null;
}

export interface KeptPlan extends Draft {
  /** The plan as a training binary carries it. */
  readonly packed: Packed;
  /** False when it was made just now. */
  readonly kept: boolean;
}

/** What is written into the cache beside the plan. */
interface Kept {
  readonly packed: Packed;
  readonly estimate: Estimate | null;
}

/**
 * The plan from the cache, or from `make`. A model that reads more than its own text is always made anew.
 *
 * @param mayBeKept false when the making is watched
 */
export async function keptPlan(
  text: ModelText,
  options: BuildOptions,
  make: () => Promise<Draft>,
  mayBeKept: boolean,
): Promise<KeptPlan> {
  const build = process.env["SORACC_BUILD"];
  const notify = (message: string): void => void process.stderr.write(`soracc: ${message}\n`);
  let made: KeptPlan | undefined;
  const makeNow = async (): Promise<KeptPlan> => {
    const draft = await make();
    const packed = await pack(new TextEncoder().encode(printPlan(draft.plan)));
    return (made = { ...draft, packed, kept: false });
  };
  if (!mayBeKept || build === undefined || !text.isClosed) return makeNow();
  const { preset, set, parallel, target, arch, precision } = options;
  const choices = JSON.stringify({ preset, set, parallel, target, arch, precision });
  const cache = await openCacheFolder(undefined, notify);
  const key = hashOf("plan", build, text.shown, text.code, choices);
  const kept = await keptText(cache, key, async () => {
    const { packed, estimate } = await makeNow();
    return JSON.stringify({ packed, estimate } satisfies Kept);
  });
  if (made !== undefined) return made;
  const { packed, estimate } = JSON.parse(kept) as Kept;
  return { packed, estimate, plan: parsePlan(gunzipSync(Buffer.from(packed.gzip, "base64")).toString()), kept: true };
}
