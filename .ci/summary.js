// Prints the counts of a vitest JSON report as `N passed, N failed, N skipped`; exits 1 when something failed or
// nothing ran. Plain JavaScript: it has to work whatever went wrong before.
import { readFileSync } from "node:fs";

/** @typedef {{ status: string, assertionResults: { status: string }[] }} FileResult */

const counts = { passed: 0, failed: 0, skipped: 0 };
try {
  /** @type {unknown} */
  const json = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
  const report = /** @type {{ testResults: FileResult[] }} */ (json);
  for (const { status, assertionResults } of report.testResults) {
    for (const result of assertionResults) {
      if (result.status === "passed") counts.passed += 1;
      else if (result.status === "failed") counts.failed += 1;
      else counts.skipped += 1; // skipped, pending, todo, disabled
    }
    // A file that could not be loaded, or whose hooks failed, has no failed test of its own: it counts as one.
    if (status === "failed" && !assertionResults.some((result) => result.status === "failed")) counts.failed += 1;
  }
} catch (cause) {
  console.log(`no test report: ${cause instanceof Error ? cause.message : String(cause)}`);
}
const executed = counts.passed + counts.failed;
if (executed === 0) console.log("no test was executed, which is a failure");
console.log(`${String(counts.passed)} passed, ${String(counts.failed)} failed, ${String(counts.skipped)} skipped`);
process.exitCode = executed === 0 || counts.failed > 0 ? 1 : 0;
