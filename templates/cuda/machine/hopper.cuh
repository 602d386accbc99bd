// What sm_90a adds: bulk copies of boxes of a tensor that report to a barrier in shared memory, products of a warpgroup
// (four warps, the first at a multiple of four) straight from shared memory, and registers that change hands between
// warpgroups. One function per instruction, like machine.cuh; include it after prelude.cuh.
#pragma once

namespace soracc {

// --- barriers in shared memory --------------------------------------------------------------------------------------

// Eight bytes each. A phase of a barrier ends when `arrivals` arrivals and all bytes announced for it have come; phases
// count from 0, and their parity tells them apart.
DEVICE void mbarrier_init(uint32_t address, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
}

// After the inits, before the block's barrier: makes them visible to copies.
DEVICE void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void mbarrier_arrive(uint32_t address) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
}

// One arrival that also announces `bytes` of copies.
DEVICE void mbarrier_expect(uint32_t address, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes) : "memory");
}

// Until the phase of this parity has ended. A fresh barrier lets through whoever waits for parity 1.
DEVICE void mbarrier_wait(uint32_t address, uint32_t parity) {
  uint32_t ended;
  do {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.b32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(ended)
        : "r"(address), "r"(parity)
        : "memory");
  } while (ended == 0);
}

// --- copies of boxes of a tensor ------------------------------------------------------------------------------------

// The box at coordinates c0 (innermost), c1 ... goes to shared memory, rounded to the map's swizzle; what lies outside of
// the tensor becomes zero. Its bytes count on `mbarrier`. One thread does this for all.
DEVICE void tma_load_2d(uint32_t shared, const TensorMap* map, uint32_t mbarrier, int32_t c0, int32_t c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(shared),
      "l"(map), "r"(mbarrier), "r"(c0), "r"(c1)
      : "memory");
}
DEVICE void tma_load_3d(uint32_t shared, const TensorMap* map, uint32_t mbarrier, int32_t c0, int32_t c1, int32_t c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
          shared),
      "l"(map), "r"(mbarrier), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
DEVICE void tma_load_4d(uint32_t shared, const TensorMap* map, uint32_t mbarrier, int32_t c0, int32_t c1, int32_t c2,
                        int32_t c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared),
      "l"(map), "r"(mbarrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

DEVICE void tma_prefetch(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

// What this thread has stored to shared memory is there for copies and warpgroup products that come after.
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- products of a warpgroup ----------------------------------------------------------------------------------------

// Where 64 x 16 or N x 16 elements lie in shared memory. Rows of `swizzle` bytes lie one after the other, and eight of
// them, permuted in units of 16 bytes, are a pattern that begins at a multiple of its size. Along a row runs
//   the sum (not transposed):  `stride` is from eight rows to the next eight, `leading` is not used;
//   m or n (transposed):       `stride` is from eight steps of the sum to the next eight, `leading` from one row's worth
//                              of m or n to the next.
// Without a swizzle, units of 8 rows of 16 bytes: `leading` along the sum, `stride` along m or n, transposed or not.
DEVICE uint64_t wgmma_descriptor(uint32_t shared, uint32_t leading_bytes, uint32_t stride_bytes, uint32_t swizzle_bytes) {
  const uint64_t swizzle = swizzle_bytes == 128 ? 1 : swizzle_bytes == 64 ? 2 : swizzle_bytes == 32 ? 3 : 0;
  return (shared & 0x3ffffu) >> 4 | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | swizzle << 62;
}

// Before the first product, and after registers that products use were written otherwise.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Products since the last commit are one group; waiting for all but the latest N groups makes their sums readable.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

DEVICE void wgmma_hold(float& value) { asm volatile("" : "+f"(value)::"memory"); }
DEVICE void wgmma_hold(uint32_t& value) { asm volatile("" : "+r"(value)::"memory"); }

// Sums that products in flight may still write, or have just written: the compiler moves no use of them past this.
template <class T, int N>
DEVICE void wgmma_hold(T (&registers)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) wgmma_hold(registers[i]);
}

// Sums that the next product begins: what they were before need not be kept for it.
template <int N>
DEVICE void wgmma_forget(float (&sums)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "=f"(sums[i]));
}

// Sums of 64 x N: lane l of warp w has, for every eight columns, columns 2 (l % 4) and the next of rows 16 w + l / 4 and
// eight rows below: d[4i], d[4i + 1], then d[4i + 2], d[4i + 3]. The operands of a product are lists of N / 2 registers.

#define SORACC_TEXT_4 "%0, %1, %2, %3"
#define SORACC_TEXT_8 SORACC_TEXT_4 ", %4, %5, %6, %7"
#define SORACC_TEXT_12 SORACC_TEXT_8 ", %8, %9, %10, %11"
#define SORACC_TEXT_16 SORACC_TEXT_12 ", %12, %13, %14, %15"
#define SORACC_TEXT_20 SORACC_TEXT_16 ", %16, %17, %18, %19"
#define SORACC_TEXT_24 SORACC_TEXT_20 ", %20, %21, %22, %23"
#define SORACC_TEXT_28 SORACC_TEXT_24 ", %24, %25, %26, %27"
#define SORACC_TEXT_32 SORACC_TEXT_28 ", %28, %29, %30, %31"
#define SORACC_TEXT_36 SORACC_TEXT_32 ", %32, %33, %34, %35"
#define SORACC_TEXT_40 SORACC_TEXT_36 ", %36, %37, %38, %39"
#define SORACC_TEXT_44 SORACC_TEXT_40 ", %40, %41, %42, %43"
#define SORACC_TEXT_48 SORACC_TEXT_44 ", %44, %45, %46, %47"
#define SORACC_TEXT_52 SORACC_TEXT_48 ", %48, %49, %50, %51"
#define SORACC_TEXT_56 SORACC_TEXT_52 ", %52, %53, %54, %55"
#define SORACC_TEXT_60 SORACC_TEXT_56 ", %56, %57, %58, %59"
#define SORACC_TEXT_64 SORACC_TEXT_60 ", %60, %61, %62, %63"
#define SORACC_TEXT_68 SORACC_TEXT_64 ", %64, %65, %66, %67"
#define SORACC_TEXT_72 SORACC_TEXT_68 ", %68, %69, %70, %71"
#define SORACC_TEXT_76 SORACC_TEXT_72 ", %72, %73, %74, %75"
#define SORACC_TEXT_80 SORACC_TEXT_76 ", %76, %77, %78, %79"
#define SORACC_TEXT_84 SORACC_TEXT_80 ", %80, %81, %82, %83"
#define SORACC_TEXT_88 SORACC_TEXT_84 ", %84, %85, %86, %87"
#define SORACC_TEXT_92 SORACC_TEXT_88 ", %88, %89, %90, %91"
#define SORACC_TEXT_96 SORACC_TEXT_92 ", %92, %93, %94, %95"
#define SORACC_TEXT_100 SORACC_TEXT_96 ", %96, %97, %98, %99"
#define SORACC_TEXT_104 SORACC_TEXT_100 ", %100, %101, %102, %103"
#define SORACC_TEXT_108 SORACC_TEXT_104 ", %104, %105, %106, %107"
#define SORACC_TEXT_112 SORACC_TEXT_108 ", %108, %109, %110, %111"
#define SORACC_TEXT_116 SORACC_TEXT_112 ", %112, %113, %114, %115"
#define SORACC_TEXT_120 SORACC_TEXT_116 ", %116, %117, %118, %119"
#define SORACC_TEXT_124 SORACC_TEXT_120 ", %120, %121, %122, %123"
#define SORACC_TEXT_128 SORACC_TEXT_124 ", %124, %125, %126, %127"

#define SORACC_SUMS_4(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define SORACC_SUMS_8(d) SORACC_SUMS_4(d), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define SORACC_SUMS_12(d) SORACC_SUMS_8(d), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11])
#define SORACC_SUMS_16(d) SORACC_SUMS_12(d), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define SORACC_SUMS_20(d) SORACC_SUMS_16(d), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19])
#define SORACC_SUMS_24(d) SORACC_SUMS_20(d), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])
#define SORACC_SUMS_28(d) SORACC_SUMS_24(d), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27])
#define SORACC_SUMS_32(d) SORACC_SUMS_28(d), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define SORACC_SUMS_36(d) SORACC_SUMS_32(d), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35])
#define SORACC_SUMS_40(d) SORACC_SUMS_36(d), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])
#define SORACC_SUMS_44(d) SORACC_SUMS_40(d), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43])
#define SORACC_SUMS_48(d) SORACC_SUMS_44(d), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define SORACC_SUMS_52(d) SORACC_SUMS_48(d), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51])
#define SORACC_SUMS_56(d) SORACC_SUMS_52(d), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55])
#define SORACC_SUMS_60(d) SORACC_SUMS_56(d), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59])
#define SORACC_SUMS_64(d) SORACC_SUMS_60(d), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define SORACC_SUMS_68(d) SORACC_SUMS_64(d), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67])
#define SORACC_SUMS_72(d) SORACC_SUMS_68(d), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71])
#define SORACC_SUMS_76(d) SORACC_SUMS_72(d), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75])
#define SORACC_SUMS_80(d) SORACC_SUMS_76(d), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define SORACC_SUMS_84(d) SORACC_SUMS_80(d), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83])
#define SORACC_SUMS_88(d) SORACC_SUMS_84(d), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])
#define SORACC_SUMS_92(d) SORACC_SUMS_88(d), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91])
#define SORACC_SUMS_96(d) SORACC_SUMS_92(d), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
#define SORACC_SUMS_100(d) SORACC_SUMS_96(d), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99])
#define SORACC_SUMS_104(d) SORACC_SUMS_100(d), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103])
#define SORACC_SUMS_108(d) SORACC_SUMS_104(d), "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107])
#define SORACC_SUMS_112(d) SORACC_SUMS_108(d), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111])
#define SORACC_SUMS_116(d) SORACC_SUMS_112(d), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115])
#define SORACC_SUMS_120(d) SORACC_SUMS_116(d), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119])
#define SORACC_SUMS_124(d) SORACC_SUMS_120(d), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123])
#define SORACC_SUMS_128(d) SORACC_SUMS_124(d), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

template <class T>
constexpr bool IS_BF16 = false;
template <>
constexpr bool IS_BF16<bf16> = true;

template <int N>
struct Wgmma;

// One statement: the operands numbered `p0` and up follow the sums. `accumulate` of zero begins a sum.
#define SORACC_WGMMA_STATEMENT(N, TYPE, TEXT, A, B, ACCUMULATE, TRANSPOSED)                                     \
  "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #ACCUMULATE                                            \
  ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" TEXT "}, " A ", %" #B              \
  ", accumulate, 1, 1, " TRANSPOSED ";\n}"

#define SORACC_WGMMA(N, p0, p1, p2, p3, p4, p5, p6)                                                             \
  template <>                                                                                                   \
  struct Wgmma<N> {                                                                                             \
    template <class T, int TRANS_A, int TRANS_B>                                                                \
    DEVICE void shared(float (&d)[p0], uint64_t a, uint64_t b, uint32_t accumulate) {                           \
      if constexpr (IS_BF16<T>) {                                                                               \
        asm volatile(SORACC_WGMMA_STATEMENT(N, "bf16", SORACC_TEXT_##p0, "%" #p0, p1, p2, "%" #p3 ", %" #p4)    \
                     : SORACC_SUMS_##p0(d)                                                                      \
                     : "l"(a), "l"(b), "r"(accumulate), "n"(TRANS_A), "n"(TRANS_B));                            \
      } else {                                                                                                  \
        asm volatile(SORACC_WGMMA_STATEMENT(N, "f16", SORACC_TEXT_##p0, "%" #p0, p1, p2, "%" #p3 ", %" #p4)     \
                     : SORACC_SUMS_##p0(d)                                                                      \
                     : "l"(a), "l"(b), "r"(accumulate), "n"(TRANS_A), "n"(TRANS_B));                            \
      }                                                                                                         \
    }                                                                                                           \
    template <class T, int TRANS_B>                                                                             \
    DEVICE void registers(float (&d)[p0], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) {            \
      if constexpr (IS_BF16<T>) {                                                                               \
        asm volatile(SORACC_WGMMA_STATEMENT(N, "bf16", SORACC_TEXT_##p0,                                        \
                                            "{%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}", p4, p5, "%" #p6)        \
                     : SORACC_SUMS_##p0(d)                                                                      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANS_B));      \
      } else {                                                                                                  \
        asm volatile(SORACC_WGMMA_STATEMENT(N, "f16", SORACC_TEXT_##p0,                                         \
                                            "{%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}", p4, p5, "%" #p6)        \
                     : SORACC_SUMS_##p0(d)                                                                      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANS_B));      \
      }                                                                                                         \
    }                                                                                                           \
  };

SORACC_WGMMA(8, 4, 5, 6, 7, 8, 9, 10)
SORACC_WGMMA(16, 8, 9, 10, 11, 12, 13, 14)
SORACC_WGMMA(24, 12, 13, 14, 15, 16, 17, 18)
SORACC_WGMMA(32, 16, 17, 18, 19, 20, 21, 22)
SORACC_WGMMA(40, 20, 21, 22, 23, 24, 25, 26)
SORACC_WGMMA(48, 24, 25, 26, 27, 28, 29, 30)
SORACC_WGMMA(56, 28, 29, 30, 31, 32, 33, 34)
SORACC_WGMMA(64, 32, 33, 34, 35, 36, 37, 38)
SORACC_WGMMA(72, 36, 37, 38, 39, 40, 41, 42)
SORACC_WGMMA(80, 40, 41, 42, 43, 44, 45, 46)
SORACC_WGMMA(88, 44, 45, 46, 47, 48, 49, 50)
SORACC_WGMMA(96, 48, 49, 50, 51, 52, 53, 54)
SORACC_WGMMA(104, 52, 53, 54, 55, 56, 57, 58)
SORACC_WGMMA(112, 56, 57, 58, 59, 60, 61, 62)
SORACC_WGMMA(120, 60, 61, 62, 63, 64, 65, 66)
SORACC_WGMMA(128, 64, 65, 66, 67, 68, 69, 70)
SORACC_WGMMA(136, 68, 69, 70, 71, 72, 73, 74)
SORACC_WGMMA(144, 72, 73, 74, 75, 76, 77, 78)
SORACC_WGMMA(152, 76, 77, 78, 79, 80, 81, 82)
SORACC_WGMMA(160, 80, 81, 82, 83, 84, 85, 86)
SORACC_WGMMA(168, 84, 85, 86, 87, 88, 89, 90)
SORACC_WGMMA(176, 88, 89, 90, 91, 92, 93, 94)
SORACC_WGMMA(184, 92, 93, 94, 95, 96, 97, 98)
SORACC_WGMMA(192, 96, 97, 98, 99, 100, 101, 102)
SORACC_WGMMA(200, 100, 101, 102, 103, 104, 105, 106)
SORACC_WGMMA(208, 104, 105, 106, 107, 108, 109, 110)
SORACC_WGMMA(216, 108, 109, 110, 111, 112, 113, 114)
SORACC_WGMMA(224, 112, 113, 114, 115, 116, 117, 118)
SORACC_WGMMA(232, 116, 117, 118, 119, 120, 121, 122)
SORACC_WGMMA(240, 120, 121, 122, 123, 124, 125, 126)
SORACC_WGMMA(248, 124, 125, 126, 127, 128, 129, 130)
SORACC_WGMMA(256, 128, 129, 130, 131, 132, 133, 134)

// d = a b or d += a b: 64 rows of a, N columns of b, 16 steps; T is bf16 or f16. Both sides lie in shared memory, a
// transposed one with m or n contiguous instead of the sum.
template <class T, int N, int TRANS_A, int TRANS_B>
DEVICE void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  Wgmma<N>::template shared<T, TRANS_A, TRANS_B>(d, a, b, accumulate);
}

// The same with a in registers: pairs of elements, of row l / 4 and eight below for columns 2 (l % 4) and the next, then
// both rows eight columns on.
template <class T, int N, int TRANS_B>
DEVICE void wgmma_registers(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  Wgmma<N>::template registers<T, TRANS_B>(d, a, b, accumulate);
}

// --- registers that change hands ------------------------------------------------------------------------------------

// By all warps of a warpgroup, to a multiple of eight from 24 to 240: asking for more waits until others have fewer.
template <int N>
DEVICE void set_more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
DEVICE void set_fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

}  // namespace soracc
