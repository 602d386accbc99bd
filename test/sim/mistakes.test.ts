/** What kernels for any GPU can do wrong: races, bounds, alignment, waits, barriers. */
import { findAll, numbers, type Planted } from "./planted.ts";

const exchange = { threads: 64, sharedBytes: 256, buffers: [numbers(64), numbers(64)] };

const PLANTED: readonly Planted[] = [
  {
    what: "a missing barrier between a store and another thread's load",
    written: exchange,
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = arguments.a[thread_index()];
@sync_threads();
arguments.b[thread_index()] = slots[63 - thread_index()];`,
    message: /race: thread \d+ reads shared \+ \d+, which thread \d+ writes|nobody has written/,
    line: "slots[63",
  },
  {
    what: "a missing barrier between a load and another thread's next store",
    written: exchange,
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = arguments.a[thread_index()];
sync_threads();
const float other = slots[63 - thread_index()];
@sync_threads();
slots[thread_index()] = other;
arguments.b[thread_index()] = other;`,
    message: /race: thread \d+ (overwrites|reads) shared \+ \d+/,
    line: "slots[63",
  },
  {
    what: "a barrier of the warp where the whole block has to meet",
    written: exchange,
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = arguments.a[thread_index()];
@sync_threads();
!sync_warp();
arguments.b[thread_index()] = slots[63 - thread_index()];`,
    message: /race: thread|nobody has written/,
  },
  {
    what: "a load past the end of a buffer",
    written: { threads: 64, buffers: [numbers(60), numbers(64)] },
    text: `
@if (thread_index() < 60)
arguments.b[thread_index()] = arguments.a[thread_index()];`,
    message: /thread 60 reads 4 bytes outside of every buffer: a \+ 240 of 240 bytes/,
    line: "arguments.a[",
  },
  {
    what: "a store in front of a buffer",
    written: { threads: 32, buffers: [numbers(32)] },
    text: `
@if (thread_index() > 0)
arguments.a[thread_index() - 1] = 1.0f;`,
    message: /thread 0 writes 4 bytes outside of every buffer: a \+ -4 of 128 bytes/,
    line: "arguments.a[",
  },
  {
    what: "a store past the end of shared memory",
    written: { threads: 64, sharedBytes: 240, buffers: [numbers(64)] },
    text: `
@if (thread_index() < 60)
reinterpret_cast<float*>(shared_memory())[thread_index()] = 1.0f;`,
    message: /writes 4 bytes at shared \+ 240, outside of the block's 240 bytes/,
    line: "shared_memory())[",
  },
  {
    what: "shared memory that nobody has written",
    written: { threads: 32, sharedBytes: 256, buffers: [numbers(32)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = 1.0f;
@slots[32 + thread_index()] = 1.0f;
arguments.a[thread_index()] = slots[thread_index() * 2 % 64 / 2 + 32];`,
    message: /thread \d+ reads shared \+ (128|192), which nobody has written/,
    line: "* 2 % 64",
  },
  {
    what: "a missing wait for an asynchronous copy",
    written: { threads: 32, sharedBytes: 512, buffers: [numbers(128), numbers(128)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory()) + 4 * thread_index();
copy_async_16(shared_address(slots), arguments.a + 4 * thread_index(), 16);
copy_async_commit();
@copy_async_wait<0>();
arguments.b[4 * thread_index()] = slots[0];`,
    message: /reads shared \+ \d+, where a copy of thread \d+ has not landed: its wait is missing/,
    line: "slots[0]",
  },
  {
    what: "a wait that leaves one group too many in flight",
    written: { threads: 32, sharedBytes: 512, buffers: [numbers(128), numbers(128)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory()) + 4 * thread_index();
copy_async_16(shared_address(slots), arguments.a + 4 * thread_index(), 16);
copy_async_commit();
@copy_async_wait<0>();
!copy_async_wait<1>();
arguments.b[4 * thread_index()] = slots[0];`,
    message: /has not landed: its wait is missing/,
  },
  {
    what: "a wait without the barrier that makes the copies of others visible",
    written: { threads: 64, sharedBytes: 1024, buffers: [numbers(256), numbers(64)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
copy_async_16(shared_address(slots + 4 * thread_index()), arguments.a + 4 * thread_index(), 16);
copy_async_commit();
copy_async_wait<0>();
@sync_threads();
arguments.b[thread_index()] = slots[4 * (63 - thread_index())];`,
    message: /race|has not landed|nobody has written/,
  },
  {
    what: "a barrier that half of the block never reaches",
    written: { threads: 64, buffers: [numbers(64)] },
    text: `
!if (thread_index() < 32)
sync_threads();
arguments.a[thread_index()] = 1.0f;`,
    message:
      /deadlock: no thread of the block can go on\n {2}32 threads, the first of them 0, wait for sync_threads of 64 threads, to which 32 have come: kernel.cu:\d+\n {2}32 threads have returned/,
    line: "sync_threads",
  },
  {
    what: "a named barrier for more threads than come",
    written: { threads: 64, buffers: [numbers(64)] },
    text: `
@sync_named(1, 64);
!sync_named(1, 96);
arguments.a[thread_index()] = 1.0f;`,
    message:
      /deadlock[\s\S]*64 threads, the first of them 0, wait for barrier 1 of 96 threads, to which 64 have come: kernel.cu:\d+/,
    line: "sync_named(1, 96)",
  },
  {
    what: "ldmatrix from a row that is not aligned",
    written: { threads: 32, sharedBytes: 1024, buffers: [numbers(32)] },
    text: `
uint8_t* const memory = shared_memory();
for (int i = 0; i < 8; ++i) reinterpret_cast<float*>(memory)[i * 32 + thread_index()] = 1.0f;
sync_warp();
uint32_t d[2];
@ldmatrix_x2(d, shared_address(memory + 16 * (thread_index() % 16)));
!ldmatrix_x2(d, shared_address(memory + 8 * (thread_index() % 16)));
arguments.a[thread_index()] = d[0];`,
    message: /ldmatrix reads a row at shared \+ 8, no multiple of 16/,
  },
  {
    what: "a shuffle where lanes have to meet",
    written: { threads: 32, sharedBytes: 128, buffers: [numbers(32), numbers(32)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = arguments.a[thread_index()];
sync_warp();
const float other = slots[31 - thread_index()];
@sync_warp();
slots[thread_index()] = shuffle_xor(other, 1);
arguments.b[thread_index()] = slots[thread_index()];`,
    message: /race: thread \d+ overwrites shared \+ \d+, which thread \d+ reads, with no barrier between them/,
    line: "shuffle_xor",
  },
  {
    what: "a row in place that a lane stores over before all have read it",
    written: { threads: 64, buffers: [numbers(64)] },
    text: `
const float first = arguments.a[0];
@sync_threads();
arguments.a[thread_index()] += first;`,
    message:
      /race: thread \d+ (overwrites|reads) a \+ 0, which thread \d+ (reads|writes), with no barrier between them/,
    line: "arguments.a[thread_index()] += first",
  },
  {
    what: "two blocks that store to one place",
    written: { threads: 32, blocks: 12, buffers: [numbers(400)] },
    text: `
@arguments.a[block_index() * 32 + thread_index()] = 1.0f;
!arguments.a[block_index() * 31 + thread_index()] = 1.0f;`,
    message: /race: thread \d+ writes a \+ \d+, which thread \d+ of block \d+ writes in the same launch/,
    line: "arguments.a[block",
  },
  {
    what: "a block that reads what another stores",
    written: { threads: 32, blocks: 12, buffers: [numbers(400), numbers(400)] },
    text: `
const int64_t at = block_index() * 32 + thread_index();
arguments.a[at] = 1.0f;
@arguments.b[at] = arguments.a[at];
!arguments.b[at] = arguments.a[(at + 32) % 384];`,
    message:
      /race: (thread \d+ (reads|overwrites|writes) a \+ \d+, which thread \d+ of block \d+ (reads|writes)|thread \d+ overwrites a \+ \d+, which threads of (several|another) blocks? read) in the same launch/,
  },
  {
    what: "a load of two words that are not aligned",
    written: { threads: 32, buffers: [numbers(64), numbers(64)] },
    text: `
struct alignas(8) Pair { float x, y; };
@arguments.b[thread_index()] = reinterpret_cast<const Pair*>(arguments.a + 2 * thread_index() % 62)->y;
!arguments.b[thread_index()] = bit_cast<Pair>(*reinterpret_cast<const uint64_t*>(arguments.a + 2 * thread_index() % 62 + 1)).y;`,
    message: /thread \d+ reads 8 bytes at an address that is no multiple of it/,
    line: "arguments.b[thread_index()] =",
  },
  {
    what: "a load through a null pointer",
    written: { threads: 32, buffers: [numbers(32)] },
    text: `
const float* source = arguments.a;
!source = nullptr;
arguments.a[thread_index()] = source[thread_index()] + 1.0f;`,
    message: /thread \d+ reads 4 bytes outside of every buffer: a \+ -\d+ of 128 bytes/,
    line: "source[thread_index()] + 1",
  },
  {
    what: "a local variable of another thread",
    written: { threads: 32, buffers: [new BigUint64Array(1), numbers(32)] },
    text: `
volatile float own = 1.0f;
if (thread_index() == 0) arguments.a[0] = reinterpret_cast<uint64_t>(&own);
sync_warp();
!if (thread_index() == 1) arguments.b[1] = *reinterpret_cast<float*>(arguments.a[0]);
@if (thread_index() == 0) arguments.b[1] = *reinterpret_cast<float*>(arguments.a[0]);`,
    message: /thread 1 reads a local variable of thread 0/,
    line: "thread_index() == 1",
  },
  {
    what: "a division by zero",
    written: { threads: 32, buffers: [new Uint32Array(32)] },
    text: `
!arguments.a[thread_index()] = 7 / arguments.a[thread_index()];
@arguments.a[thread_index()] = 7 / (arguments.a[thread_index()] + 1);`,
    message: /thread \d+ divides an integer by zero/,
    line: "7 /",
  },
  {
    what: "more local memory than a thread has",
    written: { threads: 32, buffers: [numbers(32)] },
    text: `
@constexpr int COUNT = 1000;
!constexpr int COUNT = 100000;
volatile float many[COUNT];
for (int i = COUNT - 1; i >= 0; --i) many[i] = i;
arguments.a[thread_index()] = many[thread_index()];`,
    message: /thread \d+ has more local variables and calls than its stack of \d+ bytes holds/,
  },
  {
    what: "lanes of one warp at different instructions",
    written: { threads: 32, buffers: [numbers(32)] },
    text: `
!if (thread_index() < 16) sync_warp();
!else arguments.a[thread_index()] = shuffle_xor(1.0f, 1);
@sync_warp();`,
    message: /lanes of one warp are at different instructions: (sync_warp and a shuffle|a shuffle and sync_warp)/,
    line: "shuffle_xor(1.0f",
  },
  {
    what: "a product that a part of a warp begins",
    written: { threads: 32, buffers: [numbers(32)] },
    text: `
float d[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
const uint32_t a[4] = { 0, 0, 0, 0 }, b[2] = { 0, 0 };
!if (thread_index() < 8)
mma_bf16(d, a, b);
arguments.a[thread_index()] = d[0];`,
    message:
      /mma needs a whole warp, of which \d+ lanes have returned|returns while lanes of its warp wait for mma of all of them/,
    line: "mma_bf16",
  },
  {
    what: "a barrier for different numbers of threads",
    written: { threads: 96, buffers: [numbers(96)] },
    text: `
@if (warp_index() < 2) sync_named(1, 64);
!if (warp_index() < 2) sync_named(1, warp_index() == 0 ? 64 : 96);
arguments.a[thread_index()] = 1.0f;`,
    message: /barrier 1 is for (64 threads and for 96|96 threads and for 64) at a time/,
    line: "sync_named(1",
  },
  {
    what: "a copy to a place that is not aligned",
    written: { threads: 32, sharedBytes: 1024, buffers: [numbers(256)] },
    text: `
const uint32_t place = shared_address(shared_memory() + 16 * thread_index());
@copy_async_16(place, arguments.a + 4 * thread_index(), 16);
!copy_async_16(place + 8, arguments.a + 4 * thread_index(), 16);
copy_async_commit();
copy_async_wait<0>();`,
    message: /thread \d+ copies at shared \+ \d+, no multiple of 16/,
    line: "copy_async_16(place",
  },
  {
    what: "a copy from past the end of a buffer",
    written: { threads: 32, sharedBytes: 1024, buffers: [numbers(126)] },
    text: `
@const uint32_t bytes = thread_index() == 31 ? 8 : 16;
!const uint32_t bytes = 16;
copy_async_16(shared_address(shared_memory() + 16 * thread_index()), arguments.a + 4 * thread_index(), bytes);
copy_async_commit();
copy_async_wait<0>();`,
    message: /thread 31 copies 16 bytes outside of every buffer: a \+ 496 of 504 bytes/,
    line: "copy_async_16(",
  },
  {
    what: "a copy over what another warp still reads",
    written: { threads: 64, sharedBytes: 1024, buffers: [numbers(256), numbers(64)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
for (int turn = 0; turn < 3; ++turn) {
copy_async_16(shared_address(slots + 4 * thread_index()), arguments.a + 4 * thread_index(), 16);
copy_async_commit();
copy_async_wait<0>();
sync_threads();
arguments.b[thread_index()] = slots[4 * (63 - thread_index())];
@sync_threads();
}`,
    message: /race: thread \d+ (overwrites|reads) shared \+ \d+, which thread \d+ (reads|writes)|has not landed/,
  },
];

findAll(PLANTED);
