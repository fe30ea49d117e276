// Host side of elbo, shared by CPU and CUDA: reads the plan, checks the tensors, allocates the outputs.
//
// plan: the number of kls U, the number of terms P, then kPlanFields numbers a term (PlanField). A tensor is given by
// its index in `tensors`, -1 for none. numbers: beta, then the weight of each term. tensors: the U kls, the P recs or
// predictions, then the others that the plan names.
#pragma once
#include <vector>

#include "math/elbo.h"
#include "ops/joints_loss.h"

namespace cvhpe {

enum PlanField : int {
  kIsJoints,
  kTarget,
  kWeight,
  kAngle,
  kScale,
  kShift,
  kFlip,
  kRootShiftWeight,
  kRoot,
  kRootShiftJoint,
  kRelative,
  kSkipNan,
  kKl,
  kMask,
  kPlanFields
};

struct ElboHost {
  ElboTask task{};
  Tensor total, values;
  std::vector<Tensor> grads;
  std::vector<Tensor> kept;                // dense copies and losses of joints terms, alive while kernels run
  std::vector<JointsLossTensors> joints;
};

inline TypedArray losses_of(ElboHost& host, const Tensor& t, int64_t rows, const Tensor& like, const char* what,
                            int index) {
  check(t.dim() == 1 && t.size(0) == rows, "elbo: ", what, " ", index, ": shape ", shape_of(t), ", expected [", rows,
        "]");
  check(same_device(t, like), "elbo: ", what, " ", index, ": on another device than the first kl");
  host.kept.push_back(dense(t));
  return typed_array(host.kept.back(), what);
}

inline ElboHost elbo_host(const std::vector<Tensor>& tensors, const std::vector<int64_t>& plan,
                          const std::vector<double>& numbers, bool gradient) {
  ElboHost host;
  ElboTask& task = host.task;
  check(plan.size() >= 2, "elbo: plan: too short");
  const int64_t kls = plan[0], terms = plan[1];
  check(terms >= 1 && terms <= kMaxTerms, "elbo: terms: ", terms, " given, expected 1 to ", kMaxTerms);
  check(kls >= 1 && kls <= terms && plan.size() == static_cast<size_t>(2 + terms * kPlanFields) &&
            numbers.size() == static_cast<size_t>(1 + terms) &&
            tensors.size() >= static_cast<size_t>(kls + terms),
        "elbo: plan: does not fit the tensors");
  const auto at = [&](int64_t place) -> MaybeTensor {
    check(place >= -1 && place < static_cast<int64_t>(tensors.size()), "elbo: plan: no tensor ", place);
    return place < 0 ? MaybeTensor() : MaybeTensor(tensors[place]);
  };
  const Tensor& first = tensors[0];
  check(first.dim() == 1, "elbo: kl 0: shape ", shape_of(first), ", expected [B]");
  const int64_t rows = first.size(0);
  host.kept.reserve(kls + 3 * terms);
  host.joints.reserve(terms);
  task.terms = static_cast<int>(terms);
  task.kls = static_cast<int>(kls);
  task.rows = rows;
  task.beta = numbers[0];
  const auto gradient_like = [&](const Tensor& t, const std::vector<int64_t>& shape) {
    host.grads.push_back(empty(shape, t.scalar_type(), t));
    return typed_array(host.grads.back(), "elbo");
  };
  for (int i = 0; i < kls; ++i) {
    task.kl[i] = losses_of(host, tensors[i], rows, first, "kl", i);
    if (gradient) task.kl_grad[i] = gradient_like(tensors[i], {rows});
  }
  for (int i = 0; i < terms; ++i) {
    const int64_t* p = plan.data() + 2 + i * kPlanFields;
    const Tensor& rec = tensors[kls + i];
    ElboTerm& term = task.term[i];
    term.weight = numbers[1 + i];
    check(p[kKl] >= 0 && p[kKl] < kls, "elbo: plan: no kl ", p[kKl]);
    term.kl = static_cast<int>(p[kKl]);
    if (const MaybeTensor mask = at(p[kMask])) {
      check(mask->dim() == 1 && mask->size(0) == rows && mask->scalar_type() == ScalarType::Bool, "elbo: mask ", i,
            ": shape ", shape_of(*mask), ", expected bool [", rows, "]");
      check(same_device(*mask, first), "elbo: mask ", i, ": on another device than the first kl");
      host.kept.push_back(dense(*mask));
      term.mask = static_cast<const bool*>(data(host.kept.back()));
    }
    term.is_joints = p[kIsJoints] != 0;
    if (!term.is_joints) {
      term.rec = losses_of(host, rec, rows, first, "rec", i);
      if (gradient) term.rec_grad = gradient_like(rec, {rows});
      continue;
    }
    const MaybeTensor target = at(p[kTarget]);
    check(target.has_value(), "elbo: plan: a joints term without target");
    check_joints("elbo", "pred", rec);
    check(rec.size(0) == rows && same_device(rec, first), "elbo: pred of term ", i, ": shape ", shape_of(rec),
          ", expected ", rows, " samples on the device of the first kl");
    host.joints.push_back(
        joints_loss_tensors(rec, *target, at(p[kWeight]),
                            view_tensors("elbo", rec, at(p[kAngle]), at(p[kScale]), at(p[kShift]), at(p[kFlip]),
                                         at(p[kRootShiftWeight]), p[kRoot], p[kRootShiftJoint], p[kRelative] != 0),
                            p[kSkipNan] != 0));
    term.joints = host.joints.back().loss;
    term.width = static_cast<int>(rec.size(2));
    if (gradient) term.joints.grad = gradient_like(rec, {rows, rec.size(1), rec.size(2)});
    host.kept.push_back(empty({rows}, ScalarType::Float, first));
    term.rec = typed_array(host.kept.back(), "elbo");
  }
  host.total = empty({}, ScalarType::Float, first);
  host.values = empty({2 * terms}, ScalarType::Float, first);
  task.total = data(host.total);
  task.values = data(host.values);
  return host;
}

}  // namespace cvhpe
