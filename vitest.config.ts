import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const root = fileURLToPath(new URL(".", import.meta.url));

export default defineConfig({
  resolve: { alias: { soracc: `${root}compiler/language/index.ts` } },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["**/node_modules/**", "test/fixtures/**"],
    environment: "node",
    deps: { interopDefault: false }, // CommonJS packages look as they do under plain Node
    env: { SORACC_ROOT: root.replace(/\/$/, "") }, // what bin/soracc.js sets for the commands
    pool: "forks", // native addons and compiled kernels: a crash must not take the other tests along
    maxWorkers: 2, // every test file may run a C++ compiler of its own
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
