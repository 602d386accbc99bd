// Zero warnings: `npm run lint` fails on the first one. Every relaxation below says why it is there.
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  globalIgnores(["node_modules/", "dist/", "coverage/", "runs/", "**/.cache/", "test/fixtures/", "templates/"]),
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: "error",
      "no-implicit-coercion": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true, requireDefaultForNonUnion: false },
      ],
      "@typescript-eslint/no-unused-vars": [
        "error",
        { argsIgnorePattern: "^_", varsIgnorePattern: "^_", destructuredArrayIgnorePattern: "^_" },
      ],
      // Messages and generated code are full of numbers; a number in a template has one meaning.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-unnecessary-condition": [
        "error",
        { allowConstantLoopConditions: "only-allowed-literals" },
      ],
      // Loops over typed arrays index within bounds they have just computed; `data[i]!` says so at no cost.
      "@typescript-eslint/no-non-null-assertion": "off",
      // Unions are types and records are interfaces, but a record may be a type beside its union.
      "@typescript-eslint/consistent-type-definitions": "off",
      // A device or a reader may answer at once where its interface promises later.
      "@typescript-eslint/require-await": "off",
      // A type parameter used once often carries the inference of a typed record.
      "@typescript-eslint/no-unnecessary-type-parameters": "off",
      // process.env["NAME"] and pointer["kind"]: tsc decides which spelling is legal.
      "@typescript-eslint/dot-notation": "off",
    },
  },
  {
    files: ["test/**/*.ts", "bench/**/*.ts"],
    rules: {
      // expect.objectContaining and its kin are typed `any` by the test runner.
      "@typescript-eslint/no-unsafe-assignment": "off",
    },
  },
);
