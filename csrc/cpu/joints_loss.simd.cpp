#include "cpu/joints_loss.simd.h"

#include "cpu/joints_loop.h"

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

template <class W, int K, int kKind>
void rows_of_kind(const JointsLoss& loss, int64_t begin, int64_t end, const bool* mask, double grad_scale, void* out) {
  const W scale = static_cast<W>(grad_scale);
  for (int64_t b = begin; b < end; ++b) {
    const bool counts = mask == nullptr || mask[b];
    static_cast<W*>(out)[b] = counts ? joints_sample<W, K, kKind>(loss, b, scale) : W(0);
    if (counts || loss.grad.data == nullptr) continue;
    for (int64_t i = 0; i < loss.joints * K; ++i) math::store(loss.grad, b * loss.joints * K + i, W(0));
  }
}

template <class W, int K>
void rows(const JointsLoss& loss, int64_t begin, int64_t end, const bool* mask, double grad_scale, void* out) {
  const auto body = loss.kind == kSquared ? rows_of_kind<W, K, kSquared>
                    : loss.kind == kL1    ? rows_of_kind<W, K, kL1>
                                          : rows_of_kind<W, K, kHuber>;
  body(loss, begin, end, mask, grad_scale, out);
}

}  // namespace

extern const JointsLossTable joints_loss_table = {{{rows<float, 2>, rows<double, 2>}, {rows<float, 3>, rows<double, 3>}}};

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
