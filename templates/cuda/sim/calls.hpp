// What a kernel compiled for the host asks of the simulator: the functions of machine.cuh and hopper.cuh end here, and
// the executor defines them. Types are those of the language, since both sides have their own names for them.
//
// `line` is that of the instruction in its own file, which tells apart instructions that a warp must reach together.
#pragma once

extern "C" {

// --- who runs -------------------------------------------------------------------------------------------------------

// Constant for a thread, which is all a compiler may know.
unsigned sim_thread_index() __attribute__((const));
unsigned sim_block_index() __attribute__((const));
unsigned sim_block_threads() __attribute__((const));
unsigned sim_grid_blocks() __attribute__((const));
unsigned char* sim_shared_memory() __attribute__((const));
unsigned sim_shared_address(const void* pointer);

// --- barriers -------------------------------------------------------------------------------------------------------

void sim_sync_threads(int line);
void sim_sync_warp(int line);
void sim_sync_named(unsigned barrier, unsigned threads, int line);
void sim_arrive_named(unsigned barrier, unsigned threads, int line);

// --- within a warp --------------------------------------------------------------------------------------------------

unsigned long long sim_shuffle(unsigned long long value, unsigned lane, int line);
unsigned sim_ballot(bool predicate, int line);
void sim_ldmatrix(unsigned* d, unsigned address, unsigned matrices, bool transposed, int line);
// `type`: 0 bf16, 1 f16, 2 tf32.
void sim_mma(float* d, const unsigned* a, const unsigned* b, int type, int line);

// --- copies that run while the kernel goes on -----------------------------------------------------------------------

void sim_copy_async(unsigned shared, const void* global, unsigned size, unsigned bytes);
void sim_copy_async_commit();
void sim_copy_async_wait(unsigned groups);

// --- sm_90a ---------------------------------------------------------------------------------------------------------

void sim_mbarrier_init(unsigned address, unsigned arrivals);
void sim_mbarrier_init_fence();
void sim_mbarrier_arrive(unsigned address, unsigned bytes);
void sim_mbarrier_wait(unsigned address, unsigned parity);
void sim_tensor_load(unsigned shared, const void* map, unsigned mbarrier, int dimensions, const int* coordinates);
void sim_tensor_prefetch(const void* map);
void sim_proxy_fence();
void sim_wgmma_fence();
void sim_wgmma_commit();
void sim_wgmma_wait(unsigned groups);
// `registers` holds the left side, or null: then `a` describes it.
void sim_wgmma(float* d, const unsigned* registers, unsigned long long a, unsigned long long b, unsigned columns, int type,
               bool transposed_a, bool transposed_b, bool accumulate, int line);
void sim_set_registers(unsigned count, bool more, int line);

}  // extern "C"
