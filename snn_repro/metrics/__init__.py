"Numbers from what a net answered."
from snn_repro.metrics.classification import (accuracy, aurc, calibration, class_accuracy, e_aurc,
                                              early_exit, ece, outcomes, prefix_accuracy,
                                              risk_coverage, separation, step_accuracy, summary,
                                              top_k)

__all__ = ['accuracy', 'aurc', 'calibration', 'class_accuracy', 'e_aurc', 'early_exit', 'ece',
           'outcomes', 'prefix_accuracy', 'risk_coverage', 'separation', 'step_accuracy',
           'summary', 'top_k']
