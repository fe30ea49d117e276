#include "cpu/joints_loss.simd.h"

#include "cpu/joints_loop.h"

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

template <int K>
void rows(const JointsLoss& loss, int64_t begin, int64_t end, const bool* mask, double grad_scale, float* out) {
  const float scale = static_cast<float>(grad_scale);
  for (int64_t b = begin; b < end; ++b) {
    const bool counts = mask == nullptr || mask[b];
    out[b] = counts ? joints_sample<K>(loss, b, scale) : 0.f;
    if (counts || loss.grad.data == nullptr) continue;
    for (int64_t i = 0; i < loss.joints * K; ++i) math::store(loss.grad, b * loss.joints * K + i, 0.f);
  }
}

}  // namespace

extern const JointsLossTable joints_loss_table = {{rows<2>, rows<3>}};

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
