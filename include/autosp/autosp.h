#pragma once

// The whole torch-free library: read or build a graph, rewrite it with autosp::compile, print it.
#include <autosp/ir/graph.h>
#include <autosp/ir/hash.h>
#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>
#include <autosp/pass/pass.h>
#include <autosp/pass/pass_manager.h>
#include <autosp/support/status.h>

#include "autosp_pipeline.h"
