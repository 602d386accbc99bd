import { Diagnostic } from "../../contract/diagnostic.ts";

/** What a user reads when `wrong` is run; anything but a `Diagnostic` is a failure of the test. */
export function messageOf(wrong: () => unknown): string {
  try {
    wrong();
  } catch (error) {
    if (error instanceof Diagnostic) return error.message;
    throw error;
  }
  throw new Error("nothing was wrong");
}
