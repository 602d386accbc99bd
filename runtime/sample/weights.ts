/** Which weights does a user mean by --checkpoint: a file, a run, or published weights? */
import { existsSync, statSync } from "node:fs";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { checkpointFolder, latestCheckpoint } from "../checkpoint/checkpoint-folder.ts";
import { extraTensors, loadCheckpoint, type LoadedCheckpoint, type Section } from "../checkpoint/checkpoint.ts";
import type { Plan } from "../../contract/plan.ts";
import { checkFits } from "../train/training-state.ts";

export interface ChosenWeights {
  /** To be closed. */
  readonly checkpoint: LoadedCheckpoint;
  readonly section: Section;
  /** `averaged weights (EMA) of step 200 in runs/a/checkpoints/…` */
  readonly description: string;
  /** Tensors of the file that the model does not have. */
  readonly extra: readonly string[];
}

/** @throws Diagnostic when there is no such file, it does not fit, or lacks the weights asked for */
export function openWeights(given: string, plan: Plan, asked: "ema" | "model" | undefined): ChosenWeights {
  const path = fileFor(given);
  const checkpoint = loadCheckpoint(path);
  try {
    const section = asked ?? (checkpoint.has("ema") ? "ema" : "model");
    if (!checkpoint.has(section)) {
      throw new Diagnostic({
        kind: "checkpoint",
        message: `there are no ${section === "ema" ? "averaged weights (EMA)" : "weights"} in this file`,
        where: { file: path },
        fix: section === "ema" ? "sample with --weights model" : "use a checkpoint that training wrote",
      });
    }
    checkFits(checkpoint, plan, [section]);
    const kind = section === "ema" ? "averaged weights (EMA)" : "weights";
    const step = checkpoint.state === undefined ? "" : ` of step ${checkpoint.state.step}`;
    const extra = extraTensors(checkpoint, plan.parameters, [section]);
    return { checkpoint, section, description: `${kind}${step} in ${path}`, extra };
  } catch (error) {
    checkpoint.close();
    throw error;
  }
}

/** A folder stands for the latest checkpoint in it. */
function fileFor(given: string): string {
  if (!existsSync(given) || !statSync(given).isDirectory()) return given;
  const latest = latestCheckpoint(checkpointFolder(given)) ?? latestCheckpoint(given);
  if (latest !== undefined) return latest.path;
  throw new Diagnostic({
    kind: "checkpoint",
    message: `there is no checkpoint in ${given}`,
    fix: "name a run folder, a folder of checkpoints, or a .safetensors file",
  });
}
