// The elbo kernels of the GPU, in one launch and in two, against plain double arithmetic.
#include "check.h"
//
#include "cuda/elbo.cuh"
#include "joints_reference.h"

namespace {

using namespace cvhpe;
using test::Guarded;
using test::JointsCase;
using test::JointsData;

// Three pairs over two inputs: joints in space and in the plane of one input, a loss of the other's; two have a mask.
void run(int64_t rows) {
  constexpr NumberType type = kFloat;
  const JointsCase space{rows, 21, 3, true, true, true, true}, plane{rows, 21, 2, true, false, false, false};
  JointsData<float> in_space(space), in_plane(plane);
  Guarded<float> kl0(rows), kl1(rows), rec(rows), losses0(rows), losses1(rows), kl0_grad(rows), kl1_grad(rows),
      rec_grad(rows);
  Guarded<float> space_grad(rows * 63), plane_grad(rows * 42), total(1), values(6);
  Guarded<bool> mask(rows);
  test::Numbers numbers(static_cast<uint64_t>(rows));
  numbers.fill(kl0, 5);
  numbers.fill(kl1, 5);
  numbers.fill(rec, 1);
  int64_t counted = 0;
  for (int64_t b = 0; b < rows; ++b) counted += mask[b] = b % 3 != 1;
  for (int64_t b = 0; b < rows; ++b)
    if (!mask[b]) in_space.pred[b * 63] = static_cast<float>(NAN), rec[b] = static_cast<float>(NAN);  // must not matter
  const double beta = 0.25, weights[3] = {1, 0.5, 2};
  ElboTask task{};
  task.terms = 3;
  task.kls = 2;
  task.rows = rows;
  task.beta = beta;
  task.total = total.data();
  task.values = values.data();
  task.kl[0] = {kl0.data(), type};
  task.kl[1] = {kl1.data(), type};
  task.kl_grad[0] = {kl0_grad.data(), type};
  task.kl_grad[1] = {kl1_grad.data(), type};
  const auto joints = [&](ElboTerm& term, const JointsCase& c, JointsData<float>& data, Guarded<float>& grad,
                          Guarded<float>& losses) {
    term.is_joints = true;
    term.width = c.width;
    term.joints = {data.view, {data.pred.data(), type}, {data.target.data(), type}, {grad.data(), type},
                   c.weighted ? data.weight.data() : nullptr, c.joints, false};
    term.rec = {losses.data(), type};
  };
  joints(task.term[0], space, in_space, space_grad, losses0);
  joints(task.term[1], plane, in_plane, plane_grad, losses1);
  task.term[2].rec = {rec.data(), type};
  task.term[2].rec_grad = {rec_grad.data(), type};
  task.term[2].kl = 1;
  task.term[0].mask = task.term[2].mask = mask.data();
  for (int i = 0; i < 3; ++i) task.term[i].weight = weights[i];

  const double n = static_cast<double>(counted > 0 ? counted : 1), all = static_cast<double>(rows);
  double recs[3] = {}, kls[3] = {};
  std::vector<std::vector<double>> of_space(rows), of_plane(rows);
  for (int64_t b = 0; b < rows; ++b) {
    const double loss0 = loss_reference(space, in_space, b, of_space[b]);
    recs[1] += loss_reference(plane, in_plane, b, of_plane[b]) / all;
    kls[1] += kl0[b] / all;
    if (!mask[b]) continue;
    recs[0] += loss0 / n;
    recs[2] += rec[b] / n;
    kls[0] += kl0[b] / n;
    kls[2] += kl1[b] / n;
  }
  double expected = 0;
  for (int i = 0; i < 3; ++i) expected += weights[i] * (recs[i] + beta * kls[i]);

  for (const bool one_launch : {true, false}) {
    test::both_orders([&](bool) {
      if (!one_launch) cuda_on_cpu::launch(dim3(2, 3), kElboJointsThreads, [&] { elbo_joints_kernel(task); });
      cuda_on_cpu::launch(1, kElboThreads, [&] { elbo_sums_kernel(task, one_launch); });
      const std::string at = std::to_string(rows) + (one_launch ? " one launch" : " two launches");
      test::expect(test::close(total[0], expected, 1e-6), "elbo: total " + at);
      for (int i = 0; i < 3; ++i)
        test::expect(test::close(values[i], recs[i], 1e-6) && test::close(values[3 + i], kls[i], 1e-6),
                     "elbo: values " + at);
      for (int64_t b = 0; b < rows; ++b) {
        const double share = mask[b] ? 1 / n : 0;
        test::expect(test::close(kl0_grad[b], beta * (weights[0] * share + weights[1] / all), 1e-6),
                     "elbo: kl 0 " + at);
        test::expect(test::close(kl1_grad[b], beta * weights[2] * share, 1e-6), "elbo: kl 1 " + at);
        test::expect(test::close(rec_grad[b], weights[2] * share, 1e-6), "elbo: rec " + at);
        for (int i = 0; i < 63; ++i)
          test::expect(test::close(space_grad[b * 63 + i], mask[b] ? weights[0] * share * of_space[b][i] : 0, 1e-6),
                       "elbo: 3D " + at);
        for (int i = 0; i < 42; ++i)
          test::expect(test::close(plane_grad[b * 42 + i], weights[1] / all * of_plane[b][i], 1e-6), "elbo: 2D " + at);
      }
      test::expect(total.intact() && values.intact() && kl0_grad.intact() && kl1_grad.intact() && rec_grad.intact() &&
                       space_grad.intact() && plane_grad.intact() && losses0.intact() && losses1.intact(),
                   "elbo: walls " + at);
    });
  }

  // Backward: all gradients times the one that comes from above.
  Guarded<float> scaled(rows * 63), of_total(1, static_cast<float>(3));
  Guarded<BFloat> narrow(5), narrow_scaled(5);
  numbers.fill(narrow, 1);
  ElboGradients gradients{};
  gradients.count = 2;
  gradients.grad_total = {of_total.data(), type};
  gradients.in[0] = {space_grad.data(), type};
  gradients.out[0] = {scaled.data(), type};
  gradients.numbers[0] = rows * 63;
  gradients.in[1] = {narrow.data(), kBFloat};
  gradients.out[1] = {narrow_scaled.data(), kBFloat};
  gradients.numbers[1] = 5;
  test::both_orders([&](bool) {
    cuda_on_cpu::launch(dim3(3, 2), kElboJointsThreads, [&] { elbo_backward_kernel(gradients); });
    for (int64_t i = 0; i < rows * 63; ++i) test::expect(scaled[i] == 3 * space_grad[i], "elbo_backward");
    for (int i = 0; i < 5; ++i)
      test::expect(test::close(math::widen(narrow_scaled[i]), 3 * math::widen(narrow[i]), 1e-2),
                   "elbo_backward, bfloat16");
    test::expect(scaled.intact() && narrow_scaled.intact(), "elbo_backward: walls");
  });
}

}  // namespace

int main() {
  for (const int64_t rows : {1, 2, 5, 33}) run(rows);
  return test::report("elbo");
}
