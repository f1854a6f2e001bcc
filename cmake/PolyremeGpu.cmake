# SPDX-License-Identifier: BSD-3-Clause
# polyreme_gpu_objects(NAME FOLDER SOURCES...): kernels for each back end that can be built here, as shared
# objects FOLDER/NAME_cuda.so, NAME_hip.so, NAME_emulated.so and NAME_emulated64.so, each with the run time of its
# back end. The target NAME_gpu builds them all. With sanitizers the emulated ones alone.
set(gpu_folder ${CMAKE_SOURCE_DIR}/kernels/gpu)
set(gpu_warnings -Wall -Wextra)
if(POLYREME_WERROR)
    list(APPEND gpu_warnings -Werror)
endif()

# sm_80 and sm_90a as code, the newest that the compiler knows as PTX for GPUs to come.
set(nvcc_architectures)
if(POLYREME_NVCC)
    execute_process(COMMAND ${POLYREME_NVCC} --list-gpu-arch OUTPUT_VARIABLE known ERROR_QUIET)
    string(REGEX MATCHALL "[0-9]+" known "${known}")
    list(SORT known COMPARE NATURAL ORDER DESCENDING)
    if(90 IN_LIST known)
        list(GET known 0 newest)
        set(nvcc_architectures sm_80 sm_90a compute_${newest})
    endif()
endif()
set(nvcc_flags -std=c++17 -O3 -fmad=false -Xcompiler -Wall,-Wextra,-fPIC,-fvisibility=hidden)
foreach(code ${nvcc_architectures})
    string(REPLACE sm_ compute_ virtual ${code})
    list(APPEND nvcc_flags -gencode arch=${virtual},code=${code})
endforeach()
if(POLYREME_WERROR)
    list(APPEND nvcc_flags -Werror all-warnings)
endif()

# Debian's hipcc looks for a GPU, and prints a Python traceback where there is none: it is told what to find.
set(hipcc_architectures)
if(POLYREME_HIPCC)
    set(hipcc ${CMAKE_COMMAND} -E env HCC_AMDGPU_TARGET=gfx90a ${POLYREME_HIPCC})
    file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/gpu_probe.cu "#include <hip/hip_runtime.h>\n__global__ void probe() {}\n")
    foreach(architecture gfx90a gfx942)
        if(NOT DEFINED POLYREME_HIPCC_${architecture})
            execute_process(
                COMMAND ${hipcc} --offload-arch=${architecture} -x hip -c -o /dev/null
                    ${CMAKE_BINARY_DIR}/CMakeFiles/gpu_probe.cu
                RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
            set(known OFF)
            if(failed EQUAL 0)
                set(known ON)
            endif()
            set(POLYREME_HIPCC_${architecture} ${known} CACHE INTERNAL "hipcc compiles for it")
        endif()
        if(POLYREME_HIPCC_${architecture})
            list(APPEND hipcc_architectures ${architecture})
        endif()
    endforeach()
endif()
set(hipcc_offload)
foreach(architecture ${hipcc_architectures})
    list(APPEND hipcc_offload --offload-arch=${architecture})
endforeach()
set(hipcc_flags -std=c++17 -O3 -ffp-contract=off ${gpu_warnings} ${hipcc_offload} -x hip -fPIC
    -fvisibility=hidden)

# One file by a compiler that CMake does not know: object and list of headers.
function(polyreme_gpu_compile compiler label source object)
    file(RELATIVE_PATH shown ${CMAKE_SOURCE_DIR} ${source})
    add_custom_command(OUTPUT ${object}
        COMMAND ${compiler} ${ARGN} -I${CMAKE_SOURCE_DIR} -MD -MF ${object}.d -c ${source} -o ${object}
        DEPENDS ${source} DEPFILE ${object}.d
        COMMENT "Building ${label} object of ${shown}" VERBATIM)
endfunction()

function(polyreme_gpu_vendor name folder vendor compiler flags link_flags)
    set(objects)
    foreach(source ${ARGN})
        get_filename_component(stem ${source} NAME_WE)
        set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}_${vendor}.dir/${stem}.o)
        polyreme_gpu_compile(${compiler} ${vendor} ${source} ${object} ${flags})
        list(APPEND objects ${object})
    endforeach()
    set(shared ${folder}/${name}_${vendor}.so)
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${name}_${vendor}.dir)
    add_custom_command(OUTPUT ${shared}
        COMMAND ${compiler} -shared ${objects} -o ${shared} ${link_flags}
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
    target_link_libraries(${target} PRIVATE Threads::Threads)
    set_target_properties(${target} PROPERTIES
        PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${folder} CXX_EXTENSIONS ON)
    add_dependencies(${name}_gpu ${target})
endfunction()

function(polyreme_gpu_objects name folder)
    add_custom_target(${name}_gpu)
    if(nvcc_architectures AND NOT POLYREME_SANITIZE)
        string(REPLACE ";" " " compiled "${nvcc_architectures}")
        polyreme_gpu_vendor(${name} ${folder} cuda "${POLYREME_NVCC}"
            "${nvcc_flags};-DPR_GPU_COMPILED_FOR=\"${compiled}\"" "-cudart=static"
            ${ARGN} ${gpu_folder}/backend/gpu_backend.cu)
    endif()
    if(hipcc_architectures AND NOT POLYREME_SANITIZE)
        string(REPLACE ";" " " compiled "${hipcc_architectures}")
        polyreme_gpu_vendor(${name} ${folder} hip "${hipcc}"
            "${hipcc_flags};-DPR_GPU_COMPILED_FOR=\"${compiled}\"" "${hipcc_offload}"
            ${ARGN} ${gpu_folder}/backend/gpu_backend.cu)
    endif()
    if(CMAKE_CXX_COMPILER)
        polyreme_gpu_emulated(${name} ${folder} "" 32 ${ARGN})
        polyreme_gpu_emulated(${name} ${folder} 64 64 ${ARGN})
    endif()
endfunction()
