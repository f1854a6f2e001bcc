# SPDX-License-Identifier: BSD-3-Clause
# polyreme_gpu_objects(NAME FOLDER SOURCES...): kernels for each back end that can be built here, as shared
# objects FOLDER/NAME_cuda.so, NAME_hip.so, NAME_emulated.so and NAME_emulated64.so, each with the run time of its
# back end. The target NAME_gpu builds them all. With sanitizers the emulated ones alone.
set(gpu_folder ${CMAKE_SOURCE_DIR}/kernels/gpu)
set(gpu_warnings -Wall -Wextra)
if(POLYREME_WERROR)
    list(APPEND gpu_warnings -Werror)
endif()

# A cache goes by the headers of both sides, never by what one side's preprocessor leaves.
set(gpu_launcher ${CMAKE_COMMAND} -E env CCACHE_DEPEND=1)
if(CMAKE_C_COMPILER_LAUNCHER)
    list(APPEND gpu_launcher ${CMAKE_C_COMPILER_LAUNCHER})
endif()

# sm_80 and sm_90a as code, the newest that the compiler knows as PTX for GPUs to come.
set(cuda_architectures)
if(POLYREME_NVCC AND NOT POLYREME_SANITIZE)
    execute_process(COMMAND ${POLYREME_NVCC} --list-gpu-arch OUTPUT_VARIABLE known ERROR_QUIET)
    string(REGEX MATCHALL "[0-9]+" known "${known}")
    list(SORT known COMPARE NATURAL ORDER DESCENDING)
    if(90 IN_LIST known)
        list(GET known 0 newest)
        set(cuda_architectures sm_80 sm_90a compute_${newest})
    endif()
endif()
set(cuda_command ${gpu_launcher} ${POLYREME_NVCC})
set(cuda_link_flags -cudart=static -Xlinker --no-undefined)
set(cuda_flags -std=c++17 -O3 -fmad=false -Xcompiler -Wall,-Wextra,-fPIC,-fvisibility=hidden)
foreach(code ${cuda_architectures})
    string(REPLACE sm_ compute_ virtual ${code})
    list(APPEND cuda_flags -gencode arch=${virtual},code=${code})
endforeach()
if(POLYREME_WERROR)
    list(APPEND cuda_flags -Werror all-warnings)
endif()

# Debian's hipcc looks for a GPU when it is not told an architecture, and prints a Python traceback where there is none.
set(hip_architectures)
if(POLYREME_HIPCC AND NOT POLYREME_SANITIZE)
    set(hip_command ${gpu_launcher} ${POLYREME_HIPCC})
    file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/gpu_probe.cu "#include <hip/hip_runtime.h>\n__global__ void probe() {}\n")
    foreach(architecture gfx90a gfx942)
        if(NOT DEFINED POLYREME_HIPCC_${architecture})
            execute_process(
                COMMAND ${hip_command} --offload-arch=${architecture} -x hip -c -o /dev/null
                    ${CMAKE_BINARY_DIR}/CMakeFiles/gpu_probe.cu
                RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
            set(known OFF)
            if(failed EQUAL 0)
                set(known ON)
            endif()
            set(POLYREME_HIPCC_${architecture} ${known} CACHE INTERNAL "hipcc compiles for it")
        endif()
        if(POLYREME_HIPCC_${architecture})
            list(APPEND hip_architectures ${architecture})
        endif()
    endforeach()
endif()
set(hip_offload)
foreach(architecture ${hip_architectures})
    list(APPEND hip_offload --offload-arch=${architecture})
endforeach()
set(hip_link_flags ${hip_offload} -Wl,--no-undefined)
set(hip_flags -std=c++17 -O3 -ffp-contract=off ${gpu_warnings} ${hip_offload} -x hip -fPIC
    -fvisibility=hidden)

# By a compiler that CMake does not know: VENDOR_command with VENDOR_flags, and VENDOR_link_flags at the end.
function(polyreme_gpu_vendor name folder vendor compiled)
    set(objects)
    set(object_folder ${CMAKE_CURRENT_BINARY_DIR}/${name}_${vendor}.dir)
    file(MAKE_DIRECTORY ${object_folder})
    foreach(source ${ARGN})
        get_filename_component(stem ${source} NAME_WE)
        file(RELATIVE_PATH shown ${CMAKE_SOURCE_DIR} ${source})
        set(object ${object_folder}/${stem}.o)
        add_custom_command(OUTPUT ${object}
            COMMAND ${${vendor}_command} ${${vendor}_flags} "-DPR_GPU_COMPILED_FOR=\"${compiled}\""
                -I${CMAKE_SOURCE_DIR} -MD -MF ${object}.d -c ${source} -o ${object}
            DEPENDS ${source} DEPFILE ${object}.d
            COMMENT "Building ${vendor} object of ${shown}" VERBATIM)
        list(APPEND objects ${object})
    endforeach()
    set(shared ${folder}/${name}_${vendor}.so)
    add_custom_command(OUTPUT ${shared}
        COMMAND ${${vendor}_command} -shared ${objects} -o ${shared} ${${vendor}_link_flags}
        DEPENDS ${objects} COMMENT "Linking ${name}_${vendor}.so" VERBATIM)
    add_custom_target(${name}_${vendor} ALL DEPENDS ${shared})
    add_dependencies(${name}_gpu ${name}_${vendor})
endfunction()

function(polyreme_gpu_emulated name folder suffix warp)
    file(GLOB runtime CONFIGURE_DEPENDS ${gpu_folder}/emulate/*.cpp)
    set(target ${name}_emulated${suffix})
    add_library(${target} MODULE ${ARGN} ${runtime} ${gpu_folder}/backend/emulated_backend.cpp)
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
    target_compile_definitions(${target} PRIVATE PR_GPU_EMULATED GPU_WARP=${warp})
    target_compile_options(${target} PRIVATE -fvisibility=hidden -fno-exceptions -fno-rtti)
    target_link_libraries(${target} PRIVATE Threads::Threads -Wl,--no-undefined)
    set_target_properties(${target} PROPERTIES
        PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${folder} CXX_EXTENSIONS ON)
    add_dependencies(${name}_gpu ${target})
endfunction()

function(polyreme_gpu_objects name folder)
    add_custom_target(${name}_gpu)
    set(runtime ${gpu_folder}/backend/gpu_backend.cu)
    if(cuda_architectures)
        string(REPLACE ";" " " compiled "${cuda_architectures}")
        polyreme_gpu_vendor(${name} ${folder} cuda "${compiled}" ${ARGN} ${runtime})
    endif()
    if(hip_architectures)
        string(REPLACE ";" " " compiled "${hip_architectures}")
        polyreme_gpu_vendor(${name} ${folder} hip "${compiled}" ${ARGN} ${runtime})
    endif()
    if(CMAKE_CXX_COMPILER)
        polyreme_gpu_emulated(${name} ${folder} "" 32 ${ARGN})
        polyreme_gpu_emulated(${name} ${folder} 64 64 ${ARGN})
    endif()
endfunction()
