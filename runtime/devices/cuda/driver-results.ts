/** What the CUDA driver answers when something is wrong, in words. */
import { Diagnostic } from "../../../contract/diagnostic.ts";

export const SUCCESS = 0;
export const OUT_OF_MEMORY = 2;
export const NOT_READY = 600;

interface Meaning {
  readonly name: string;
  readonly message?: string;
  readonly fix?: string;
}

const FAULT_FIX =
  "a kernel is wrong, please report it; SORACC_STEPWISE=1 names the kernel, SORACC_POISON=1 finds writes beside buffers";
const MIXED_FIX = "install one NVIDIA driver for the whole machine, and restart it";
const WORN_FIX = "look at nvidia-smi -q and dmesg; reset the GPU, and have it replaced when this comes back";
const IMAGE_FIX = "update the NVIDIA driver, or use an older NVRTC with SORACC_NVRTC";

/** Those that a user meets; others are called what the driver calls them. */
const MEANINGS: Readonly<Record<number, Meaning>> = {
  1: { name: "INVALID_VALUE" },
  2: { name: "OUT_OF_MEMORY", fix: "use a smaller batch, fewer or smaller frames, or a GPU with more memory" },
  3: { name: "NOT_INITIALIZED" },
  4: { name: "DEINITIALIZED" },
  34: { name: "STUB_LIBRARY", message: "libcuda.so.1 is the stub of a toolkit, not a driver", fix: MIXED_FIX },
  46: { name: "DEVICE_UNAVAILABLE", fix: "another process holds the GPU for itself; nvidia-smi shows which" },
  100: {
    name: "NO_DEVICE",
    message: "the NVIDIA driver finds no GPU",
    fix: "check nvidia-smi and CUDA_VISIBLE_DEVICES; a container has to be started with the GPU passed through",
  },
  101: { name: "INVALID_DEVICE", fix: "check CUDA_VISIBLE_DEVICES" },
  200: { name: "INVALID_IMAGE", fix: IMAGE_FIX },
  201: { name: "INVALID_CONTEXT" },
  209: { name: "NO_BINARY_FOR_GPU", fix: IMAGE_FIX },
  214: { name: "ECC_UNCORRECTABLE", message: "the GPU's memory has an error that cannot be corrected", fix: WORN_FIX },
  218: { name: "INVALID_PTX", fix: IMAGE_FIX },
  220: { name: "NVLINK_UNCORRECTABLE", fix: WORN_FIX },
  222: { name: "UNSUPPORTED_PTX_VERSION", fix: IMAGE_FIX },
  304: { name: "OPERATING_SYSTEM", fix: "look at dmesg: the system refused something to the driver" },
  400: { name: "INVALID_HANDLE" },
  500: { name: "NOT_FOUND" },
  700: { name: "ILLEGAL_ADDRESS", message: "a kernel touched memory that is not there", fix: FAULT_FIX },
  701: { name: "LAUNCH_OUT_OF_RESOURCES" },
  702: { name: "LAUNCH_TIMEOUT", fix: "a GPU that also drives a screen stops long kernels; use another one" },
  710: { name: "ASSERT" },
  714: { name: "HARDWARE_STACK_ERROR", fix: FAULT_FIX },
  715: { name: "ILLEGAL_INSTRUCTION", message: "a kernel met an illegal instruction", fix: FAULT_FIX },
  716: { name: "MISALIGNED_ADDRESS", message: "a kernel touched memory at an odd address", fix: FAULT_FIX },
  717: { name: "INVALID_ADDRESS_SPACE", fix: FAULT_FIX },
  718: { name: "INVALID_PC", fix: FAULT_FIX },
  719: { name: "LAUNCH_FAILED", message: "a kernel failed", fix: FAULT_FIX },
  800: { name: "NOT_PERMITTED" },
  801: { name: "NOT_SUPPORTED" },
  802: { name: "SYSTEM_NOT_READY", fix: "the machine's GPUs are still being set up (nvidia-fabricmanager); try again" },
  803: { name: "SYSTEM_DRIVER_MISMATCH", fix: MIXED_FIX },
  804: { name: "COMPAT_NOT_SUPPORTED_ON_DEVICE", fix: MIXED_FIX },
  900: { name: "STREAM_CAPTURE_UNSUPPORTED" },
  901: { name: "STREAM_CAPTURE_INVALIDATED" },
  999: { name: "UNKNOWN", fix: "look at dmesg and nvidia-smi; a GPU that fell off its bus needs a restart" },
};

/**
 * `doing` follows "when": `allocating memory`. `nameOf` asks the driver for the name of a result; undefined when it does
 * not know it either.
 */
export function driverFailure(
  doing: string,
  result: number,
  nameOf: (result: number) => string | undefined = () => undefined,
): Diagnostic {
  const { name, message, fix }: Partial<Meaning> = MEANINGS[result] ?? {};
  const called = name === undefined ? (nameOf(result) ?? `CUDA error ${result}`) : `CUDA_ERROR_${name}`;
  return new Diagnostic({
    kind: "gpu",
    message: message ?? `the CUDA driver fails when ${doing}`,
    details: [`${called} when ${doing}`],
    fix: fix ?? "run soracc doctor; when driver and GPU are whole, please report this",
  });
}
