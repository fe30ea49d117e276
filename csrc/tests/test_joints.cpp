// warp_joints and joints_loss: the GPU kernels and every CPU level against plain double arithmetic and each other.
#include "check.h"
//
#include "cpu/joints_loss.simd.h"
#include "cpu/warp_joints.simd.h"
#include "cuda/joints_loss.cuh"
#include "cuda/warp_joints.cuh"
#include "joints_reference.h"

namespace {

using namespace cvhpe;
using test::Guarded;
using test::JointsCase;
using test::JointsData;

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const char* name : {"portable", "avx2", "avx512"}) {
    try {
      set_level(name);
      names.emplace_back(name);
    } catch (const std::exception&) {
      std::printf("level %s: not on this CPU, left out\n", name);
    }
  }
  return names;
}

std::string name_of(const JointsCase& c) {
  return std::to_string(c.rows) + "x" + std::to_string(c.joints) + "x" + std::to_string(c.width) +
         (c.view ? " view" : "") + (c.root_shift_weight ? " root_shift_weight" : "") + (c.relative ? " relative" : "") +
         (c.weighted ? " weighted" : "");
}

template <class T, int K>
void warp(const JointsCase& c, int index, double tolerance, const std::vector<std::string>& names) {
  JointsData<T> data(c);
  const size_t n = data.target.size();
  Guarded<T> out(n), grad(n);
  test::both_orders([&](bool) {
    const unsigned grid = static_cast<unsigned>((c.rows * c.joints + kWarpJointsThreads - 1) / kWarpJointsThreads);
    cuda_on_cpu::launch(grid, kWarpJointsThreads,
                        [&] { warp_joints_kernel<T, K>(data.view, data.target.data(), out.data(), c.rows, c.joints); });
    const unsigned samples = static_cast<unsigned>((c.rows + kWarpJointsSamples - 1) / kWarpJointsSamples);
    cuda_on_cpu::launch(samples, kWarpJointsThreads, [&] {
      warp_joints_backward_kernel<T, K>(data.view, data.pred.data(), grad.data(), c.rows, c.joints);
    });
    test::expect(out.intact() && grad.intact(), "warp_joints: walls " + name_of(c));
    for (int64_t b = 0; b < c.rows; ++b) {
      const auto expected = warp_reference(c, data, b);
      for (size_t i = 0; i < expected.size(); ++i)
        test::expect(test::close(math::widen(out[b * expected.size() + i]), expected[i], tolerance),
                     "warp_joints " + name_of(c));
    }
  });
  // The backward is the transpose: <pred, A t> = <A^T pred, t> for the linear part A t = warp(t) - warp(0).
  JointsData<T> zero(c);
  for (size_t i = 0; i < n; ++i) zero.target[i] = T{};
  const int64_t width = c.joints * c.width;
  for (int64_t b = 0; b < c.rows; ++b) {
    const auto at = warp_reference(c, data, b), at_zero = warp_reference(c, zero, b);
    double left = 0, right = 0;
    for (int64_t i = 0; i < width; ++i) {
      left += math::widen(data.pred[b * width + i]) * (at[i] - at_zero[i]);
      right += static_cast<double>(math::widen(grad[b * width + i])) * math::widen(data.target[b * width + i]);
    }
    test::expect(test::close(left, right, 30 * tolerance), "warp_joints: transpose " + name_of(c));
  }
  for (const std::string& name : names) {
    set_level(name);
    Guarded<T> out2(n), grad2(n);
    const WarpJointsTable& table = CVHPE_PICK(warp_joints_table);
    const auto type = static_cast<NumberType>(index);
    table.forward[K - 2][index]({data.view, {data.target.data(), type}, {out2.data(), type}, c.joints}, 0, c.rows);
    table.backward[K - 2][index]({data.view, {data.pred.data(), type}, {grad2.data(), type}, c.joints}, 0, c.rows);
    test::expect(same_bits(out, out2) && out2.intact(), "warp_joints: GPU = " + name + " " + name_of(c));
    for (size_t i = 0; i < n; ++i)
      test::expect(test::close(math::widen(grad[i]), math::widen(grad2[i]), 10 * tolerance),
                   "warp_joints backward: " + name);
    test::expect(grad2.intact(), "warp_joints backward: walls " + name);
  }
}

template <class T, int K>
void loss(const JointsCase& c, int index, double tolerance, const std::vector<std::string>& names) {
  JointsData<T> data(c);
  const size_t n = data.pred.size();
  Guarded<T> grad(n);
  Guarded<float> out(c.rows);
  const auto type = static_cast<NumberType>(index);
  const auto task = [&](Guarded<T>& grad_to) {
    JointsLoss l{};
    l.view = data.view;
    l.pred = {data.pred.data(), type};
    l.target = {data.target.data(), type};
    l.grad = {grad_to.data(), type};
    l.weight = c.weighted ? data.weight.data() : nullptr;
    l.joints = c.joints;
    return l;
  };
  test::both_orders([&](bool) {
    const unsigned grid = static_cast<unsigned>((c.rows + kJointsLossSamples - 1) / kJointsLossSamples);
    cuda_on_cpu::launch(grid, kJointsLossThreads, [&] { joints_loss_kernel<K>(task(grad), c.rows, out.data()); });
    test::expect(out.intact() && grad.intact(), "joints_loss: walls " + name_of(c));
    std::vector<double> expected;
    for (int64_t b = 0; b < c.rows; ++b) {
      const double value = loss_reference(c, data, b, expected);
      test::expect(test::close(out[b], value, 1e-5), "joints_loss " + name_of(c));
      for (size_t i = 0; i < expected.size(); ++i)
        test::expect(test::close(math::widen(grad[b * expected.size() + i]), expected[i], tolerance),
                     "joints_loss grad " + name_of(c));
    }
  });
  for (const std::string& name : names) {
    set_level(name);
    Guarded<T> grad2(n);
    Guarded<float> out2(c.rows);
    const auto body = CVHPE_PICK(joints_loss_table).rows[K - 2];
    body(task(grad2), 0, c.rows, nullptr, 1.0, out2.data());
    test::expect(same_bits(out, out2) && same_bits(grad, grad2), "joints_loss: GPU = " + name + " " + name_of(c));
    test::expect(out2.intact() && grad2.intact(), "joints_loss: walls " + name);
  }
}

template <class T>
void all(int index, double tolerance, const std::vector<std::string>& names) {
  for (const JointsCase& c : test::joints_cases()) {
    c.width == 2 ? warp<T, 2>(c, index, tolerance, names) : warp<T, 3>(c, index, tolerance, names);
    c.width == 2 ? loss<T, 2>(c, index, tolerance, names) : loss<T, 3>(c, index, tolerance, names);
  }
}

}  // namespace

int main() {
  const std::vector<std::string> names = levels();
  all<float>(kFloat, 2e-6, names);
  all<BFloat>(kBFloat, 1e-2, names);
  all<Half>(kHalf, 1e-3, names);
  return test::report("joints");
}
